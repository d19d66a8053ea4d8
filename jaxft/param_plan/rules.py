"""Which row decides which column of which parameter: own rows first, then the presets', each column by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxft.config import PlanConfig
from jaxft.core import patterns, tree
from jaxft.core.errors import UserError
from jaxft.param_plan.presets import PRESETS


@dataclass(frozen=True, eq=False)
class Rule:
    """A row of the plan.

    Attributes:
      pattern: searched in dotted names.
      cells: the columns that it decides.
      preset: which wrote it; empty for a user's.
    """

    pattern: str
    cells: Mapping[str, Any]
    preset: str = ""

    @property
    def where(self) -> str:
        """For messages."""
        return f"plan.preset {self.preset}" if self.preset else f'rule "{self.pattern}"'


Decisions = Mapping[str, Mapping[str, Rule]]  # column -> dotted name -> the row that decides


def decide(config: PlanConfig, names: Sequence[str], num_layers: int, columns: Sequence[str]) -> Decisions:
    """The row that decides each of these columns for each name; names that no row decides are absent.

    What a preset says of everything else (an empty pattern) gives way to what another preset says of some parameters, so
    that two of them together train what either trains.

    Raises:
      UserError: for a cell of a user's rule that decides nothing, a malformed pattern, or presets that contradict each
        other.
    """
    own = [Rule(r.pattern, {k: v for k, v in vars(r).items() if k != "pattern" and v is not None}) for r in config.rules]
    mine = _first(own, names, columns)
    _refuse_unused(own, mine, names)
    each = [
        _first([Rule(pattern, cells, preset) for pattern, cells in PRESETS[preset](config, num_layers)], names, columns)
        for preset in config.presets()
        if preset != "none"
    ]
    decided: dict[str, dict[str, Rule]] = {}
    for column in columns:
        decided[column] = dict(mine[column])
        for name in names:
            candidates = [preset[column][name] for preset in each if name in preset[column]]
            if name not in decided[column] and candidates:
                decided[column][name] = _agreed(column, name, candidates)
    return decided


def _first(rules: Sequence[Rule], names: Sequence[str], columns: Sequence[str]) -> dict[str, dict[str, Rule]]:
    decided: dict[str, dict[str, Rule]] = {column: {} for column in columns}
    for rule, found in zip(rules, patterns.each([rule.pattern for rule in rules], names), strict=True):
        matching = [name for name, fits in zip(names, found, strict=True) if fits]
        for column in rule.cells.keys() & decided.keys():
            decided[column] = {**dict.fromkeys(matching, rule), **decided[column]}
    return decided


def _refuse_unused(rules: Sequence[Rule], decided: Decisions, names: Sequence[str]) -> None:
    for rule in rules:
        for column in [c for c in decided if c in rule.cells]:
            if rule in decided[column].values():
                continue
            if not any(patterns.matches(rule.pattern, names)):
                what = "place of dropout" if column == "dropout" else "parameter"
                raise UserError(f"{rule.where} matches no {what}{tree.nearest_path(rule.pattern, names)}")
            raise UserError(f"{rule.where} decides nothing: earlier rules decide {column} of all of its parameters")


def _agreed(column: str, name: str, candidates: Sequence[Rule]) -> Rule:
    strong = [rule for rule in candidates if rule.pattern] or candidates
    for other in strong[1:]:
        a, b = strong[0].cells[column], other.cells[column]
        if a != b:
            raise UserError(
                f"plan.preset {strong[0].preset} and {other.preset} contradict each other: {column} of {name} is {_word(a)} "
                f"for the one and {_word(b)} for the other; choose one, or write a rule for it"
            )
    return strong[0]


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
