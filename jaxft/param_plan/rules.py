"""Finds the rule that decides each column of each parameter: the user's rules come first, then the presets'."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxft.config import PlanConfig
from jaxft.core import patterns, tree
from jaxft.core.errors import UserError
from jaxft.param_plan.presets import PRESETS


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule of the plan.

    Attributes:
      pattern: a regular expression that is searched in dotted names.
      cells: column -> value, for the columns that the rule decides.
      preset: the preset that it is from; empty for a user's rule.
    """

    pattern: str
    cells: Mapping[str, Any]
    preset: str = ""

    @property
    def where(self) -> str:
        """The name of the rule in messages."""
        return f"plan.preset {self.preset}" if self.preset else f'rule "{self.pattern}"'


Decisions = Mapping[str, Mapping[str, Rule]]  # column -> dotted name -> the deciding rule


def decide(
    config: PlanConfig, names: Sequence[str], num_layers: int, columns: Sequence[str], own: Sequence[Rule] = ()
) -> Decisions:
    """Finds the rule that decides each column for each name; names that no rule decides are absent.

    A preset's row for all other parameters (an empty pattern) has lower priority than another preset's row for some, so two
    presets together train what either of them trains.

    Args:
      config: the presets and the user's rules.
      names: dotted names of parameters, or of dropout sites.
      own: rules that come after the user's and before the presets'.

    Raises:
      UserError: for a value of a user's rule that decides nothing, a malformed pattern, or presets that contradict each
        other.
    """
    user_rules = [
        Rule(r.pattern, {k: v for k, v in vars(r).items() if k != "pattern" and v is not None}) for r in config.rules
    ]
    by_user = _first_match(user_rules, names, columns)
    _refuse_unused(user_rules, by_user, names)
    by_preset = []
    for preset in config.presets():
        rows = [] if preset == "none" else PRESETS[preset](config, num_layers)
        by_preset.append(_first_match([Rule(pattern, cells, preset) for pattern, cells in rows], names, columns))
    by_own = _first_match(own, names, columns)
    decided = {column: {**by_own[column], **rules} for column, rules in by_user.items()}
    for column, name in itertools.product(columns, names):
        candidates = [decisions[column][name] for decisions in by_preset if name in decisions[column]]
        if name not in decided[column] and candidates:
            decided[column][name] = _agreed(column, name, candidates)
    return decided


def _first_match(rules: Sequence[Rule], names: Sequence[str], columns: Sequence[str]) -> dict[str, dict[str, Rule]]:
    decided: dict[str, dict[str, Rule]] = {column: {} for column in columns}
    for rule, matched in zip(rules, patterns.match_each([rule.pattern for rule in rules], names), strict=True):
        matching = [name for name, is_match in zip(names, matched, strict=True) if is_match]
        for column in rule.cells.keys() & decided.keys():
            decided[column] = {**dict.fromkeys(matching, rule), **decided[column]}
    return decided


def _refuse_unused(rules: Sequence[Rule], decided: Decisions, names: Sequence[str]) -> None:
    for rule in rules:
        for column in [c for c in decided if c in rule.cells]:
            if rule in decided[column].values():
                continue
            if not any(patterns.match(rule.pattern, names)):
                what = "dropout site" if column == "dropout" else "parameter"
                raise UserError(f"{rule.where} matches no {what}{tree.nearest_path(rule.pattern, names)}")
            raise UserError(f"{rule.where} decides nothing: earlier rules decide {column} of all of its parameters")


def _agreed(column: str, name: str, candidates: Sequence[Rule]) -> Rule:
    specific = [rule for rule in candidates if rule.pattern] or candidates
    for other in specific[1:]:
        a, b = specific[0].cells[column], other.cells[column]
        if a != b:
            raise UserError(
                f"plan.preset {specific[0].preset} and {other.preset} contradict each other: {column} of {name} is "
                f"{_word(a)} in the first and {_word(b)} in the second; choose one of them, or write a rule for it"
            )
    return specific[0]


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
