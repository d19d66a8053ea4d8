"""The table of a run: what every parameter is, in which groups, and from which step on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxft.config import PlanConfig
from jaxft.config.durations import unfreeze_step
from jaxft.core import tree
from jaxft.core.errors import UserError, some
from jaxft.core.tree import Params, Path
from jaxft.param_plan.rules import Rule, decide

# Hugging Face's Trainer: no norm, and nothing with "bias" in its name, MPNet's table of relative biases included.
NO_DECAY = r"bias|\.scale$"
COLUMNS = ("trainable", "learning_rate", "weight_decay", "unfreeze", "schedule", "adapter", "init")


@dataclass(frozen=True)
class Setting:
    """What a parameter is: one row of the plan.

    Attributes:
      trainable: frozen parameters get no gradient, no moments, no decay.
      learning_rate: multiplier.
      weight_decay: none, optim.weight_decay (True), or a decay of its own.
      unfreeze: the step (counted from 0) from which on it is trained.
      schedule: its own, instead of optim.schedule.
      adapter: whether its layer gets an adapter; None as the adapters' own options say.
      init: keep the checkpoint's values, or random ones.
    """

    trainable: bool = True
    learning_rate: float = 1.0
    weight_decay: bool | float = False
    unfreeze: int = 0
    schedule: str | None = None
    adapter: bool | None = None
    init: str = "keep"


@dataclass(frozen=True)
class Row:
    """Parameters that the same rules decide, for the printed table.

    Attributes:
      pattern: of those rules.
      setting: of the parameters; where `decay_by_kind`, their weight decay differs.
      names: dotted.
      parameters: scalars among them.
    """

    pattern: str
    setting: Setting
    decay_by_kind: bool
    names: tuple[str, ...]
    parameters: int


@dataclass(frozen=True)
class ParameterPlan:
    """The plan of a run.

    Attributes:
      rows: the table.
      settings: dotted parameter name -> setting with weight decay decided.
      cuts: layer numbers at which the stacks are cut, so that the layers of a leaf may only differ in learning rate and in
        the size of their decay.
      dropout: place -> rate, where a rule gives one.
    """

    rows: tuple[Row, ...]
    settings: Mapping[str, Setting]
    cuts: tuple[int, ...]
    dropout: Mapping[str, float] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[int, ...]:
        """Steps at which parameters begin to be trained, the first of them 0."""
        return tuple(sorted({s.unfreeze for s in self.settings.values() if s.trainable}))

    def of(self, path: Path) -> Setting:
        """The setting of a leaf of a tree that is cut at `cuts`; where its layers differ, that of the first."""
        return self.settings[tree.names(path)[0]]

    def split(self, params: Params, step: int = 0) -> tuple[Params, Params]:
        """(parameters trained at a step, the others), cut at `cuts`."""

        def trained(path: Path) -> bool:
            setting = self.of(path)
            return setting.trainable and setting.unfreeze <= step

        return tree.partition(tree.recut(params, self.cuts), trained)

    def lines(self, **more: Sequence[str]) -> list[str]:
        """The table, for people; `more` columns by name, a text for every row."""
        columns: dict[str, list[str]] = {
            "rule": [row.pattern for row in self.rows],
            "trained": ["yes" if row.setting.trainable else "no" for row in self.rows],
            "lr x": [f"{row.setting.learning_rate:.4g}" if row.setting.trainable else "-" for row in self.rows],
            "decay": [_decay(row) for row in self.rows],
        }
        if len(self.stages) > 1:
            columns["from step"] = [f"{row.setting.unfreeze:,}" if row.setting.trainable else "-" for row in self.rows]
        for name, default in {"schedule": None, "adapter": None, "init": "keep"}.items():
            values = [getattr(row.setting, name) for row in self.rows]
            if set(values) != {default}:
                columns[name] = ["-" if value is None else str(value) for value in values]
        columns["tensors"] = [str(len(row.names)) for row in self.rows]
        columns["parameters"] = [f"{row.parameters:,}" for row in self.rows]
        columns |= {name.replace("_", " "): list(texts) for name, texts in more.items()}
        widths = [max(map(len, (name, *texts))) for name, texts in columns.items()]
        cells = [tuple(columns), *zip(*columns.values(), strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        for rate in dict.fromkeys(self.dropout.values()):
            lines.append(f"dropout {rate:g}: {some([place for place, x in self.dropout.items() if x == rate])}")
        return lines


def make_plan(
    config: PlanConfig,
    params: Params,
    num_layers: int,
    *,
    steps_per_epoch: int = 1,
    total_steps: int | None = None,
    places: Sequence[str] = (),
) -> ParameterPlan:
    """Decide every parameter.

    Args:
      config: presets and own rules; column by column, own rules come first and the first that decides wins.
      params: arrays or shapes, stacked.
      num_layers: of the encoder.
      steps_per_epoch, total_steps: of the run; for stages.
      places: where the model drops.

    Raises:
      UserError: for a parameter that no rule makes trainable or not, a rule of the user that decides nothing, presets that
        contradict each other, a stage after the last step, or a plan that trains nothing.
    """
    names = tree.all_names(params)
    decided = decide(config, names, num_layers, COLUMNS)
    undecided = [name for name in names if name not in decided["trainable"]]
    if undecided and config.preset == "none":
        raise UserError(
            f"{len(undecided)} parameters are covered by no rule, first {undecided[0]}: say whether it is trainable"
        )
    kinds = tree.first_match([(NO_DECAY, False), ("", True)], names)
    rules = {name: {column: decided[column].get(name) for column in COLUMNS} for name in names}
    settings = {
        name: _setting(name, rules[name], kinds[name], steps_per_epoch=steps_per_epoch, total_steps=total_steps)
        for name in names
    }
    if not any(s.trainable for s in settings.values()):
        raise UserError("the plan trains nothing: make a rule trainable or choose another plan.preset")
    _refuse_idle(rules, settings)
    dropped = decide(config, places, num_layers, ["dropout"])["dropout"]
    plan = ParameterPlan(
        _rows(rules, settings, _sizes(params)),
        settings,
        tuple(tree.uniform_cuts(params, {name: _kept_together(s) for name, s in settings.items()})),
        {place: rule.cells["dropout"] for place, rule in dropped.items()},
    )
    if plan.stages[0] > 0:
        raise UserError(f"the plan trains nothing before step {plan.stages[0]}: let unfreeze of some rule be 0")
    return plan


def _setting(
    name: str, rules: Mapping[str, Rule | None], decayed: bool, *, steps_per_epoch: int, total_steps: int | None
) -> Setting:
    cells = {column: rule.cells[column] for column, rule in rules.items() if rule}
    setting = Setting(**{**cells, "unfreeze": 0})
    if not setting.trainable:
        return Setting(False, adapter=setting.adapter, init=setting.init)
    rule = rules["unfreeze"]
    start = unfreeze_step(cells["unfreeze"], steps_per_epoch, f"{rule.where}: unfreeze") if rule else 0
    if rule and total_steps is not None and start >= total_steps:
        raise UserError(
            f"{rule.where}: {name} would be unfrozen at step {start}, but the run ends after {total_steps}; unfreeze it "
            "earlier or train longer"
        )
    own = cells.get("weight_decay", decayed)
    decay: bool | float = own if isinstance(own, bool) else own or False
    return replace(setting, weight_decay=decay, unfreeze=start)


def _refuse_idle(rules: Mapping[str, Mapping[str, Rule | None]], settings: Mapping[str, Setting]) -> None:
    """Refuse a user's rule whose rate, decay, stage or schedule falls on frozen parameters alone."""
    for column in ("learning_rate", "weight_decay", "unfreeze", "schedule"):
        found: dict[Rule, list[str]] = {}
        for name, by_column in rules.items():
            rule = by_column[column]
            if rule and not rule.preset:
                found.setdefault(rule, []).append(name)
        for rule, names in found.items():
            if not any(settings[name].trainable for name in names):
                raise UserError(
                    f"{rule.where}: {column} has no effect, because all {len(names)} parameters that it decides are frozen, "
                    f"first {names[0]}: make them trainable, or leave it out"
                )


def _kept_together(setting: Setting) -> tuple[Any, ...]:
    """What the layers of a leaf have in common. Numbers need not be: the optimizer takes one a layer."""
    own_decay = not isinstance(setting.weight_decay, bool)
    decay = "own" if own_decay else setting.weight_decay
    return setting.trainable, setting.unfreeze, setting.schedule, setting.adapter, decay


def _rows(
    rules: Mapping[str, Mapping[str, Rule | None]], settings: Mapping[str, Setting], sizes: Mapping[str, int]
) -> tuple[Row, ...]:
    groups: dict[tuple[Rule | None, ...], list[str]] = {}
    for name, by_column in rules.items():
        groups.setdefault(tuple(by_column.values()), []).append(name)
    rows = []
    for deciding, names in groups.items():
        patterns = dict.fromkeys(rule.pattern for rule in deciding if rule and rule.pattern)
        setting = settings[names[0]]
        by_kind = setting.trainable and deciding[COLUMNS.index("weight_decay")] is None
        label = " & ".join(patterns) or "(everything else)"
        rows.append(Row(label, setting, by_kind, tuple(names), sum(sizes[name] for name in names)))
    return tuple(rows)


def _sizes(params: Params) -> dict[str, int]:
    sizes = {}
    for path, leaf in tree.flatten(params).items():
        path_names = tree.names(path)
        sizes |= {name: tree.count(leaf) // len(path_names) for name in path_names}
    return sizes


def _decay(row: Row) -> str:
    if not row.setting.trainable:
        return "-"
    if row.decay_by_kind:
        return "by kind"
    own = row.setting.weight_decay
    return ("yes" if own else "no") if isinstance(own, bool) else f"{own:g}"
