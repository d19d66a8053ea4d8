"""The parameter plan of a run: for every parameter whether, when and how it is trained."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxft.config import PlanConfig
from jaxft.config.durations import unfreeze_step
from jaxft.core import tree
from jaxft.core.errors import UserError, some
from jaxft.core.tree import Params, Path
from jaxft.param_plan.rules import Rule, decide

# As in Hugging Face's Trainer: no norm, and nothing with "bias" in its name, which includes MPNet's relative biases.
NO_DECAY = r"bias|\.scale$"
HEAD_NAME = r"^heads\.[^.]*"  # which may be that of a task, such as media-bias, and decides nothing
COLUMNS = ("trainable", "learning_rate", "weight_decay", "unfreeze", "schedule", "adapter", "init")


@dataclass(frozen=True)
class Setting:
    """How a parameter is trained.

    Attributes:
      trainable: frozen parameters have no gradient, no moments and no decay.
      learning_rate: multiplier of the learning rate.
      weight_decay: False for none, True for optim.weight_decay, or a number.
      unfreeze: the first step, from 0, at which it is trained.
      schedule: a schedule instead of optim.schedule.
      adapter: whether its layer gets an adapter; None leaves it to plan.lora or plan.adapters.
      init: `keep` the checkpoint's values, or `random` ones.
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
      pattern: the patterns of these rules.
      decay_by_kind: whether their weight decay differs by kind (none for biases and norms).
      names: dotted names.
      parameters: number of scalars.
    """

    pattern: str
    setting: Setting
    decay_by_kind: bool
    names: tuple[str, ...]
    parameters: int


@dataclass(frozen=True)
class ParameterPlan:
    """The parameter plan of a run.

    Attributes:
      rows: the rows of the printed table.
      settings: dotted parameter name -> setting, with weight decay decided.
      cuts: layer numbers at which the stacks are cut, so that the layers of a leaf differ only in learning rate and in the
        size of their weight decay.
      dropout: dropout site -> dropout rate, where a rule sets one.
    """

    rows: tuple[Row, ...]
    settings: Mapping[str, Setting]
    cuts: tuple[int, ...]
    dropout: Mapping[str, float] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[int, ...]:
        """Steps at which parameters are unfrozen; the first is 0."""
        return tuple(sorted({s.unfreeze for s in self.settings.values() if s.trainable}))

    def of(self, path: Path) -> Setting:
        """The setting of a leaf of a tree that is cut at `cuts`; if its layers differ, that of the first."""
        return self.settings[tree.names(path)[0]]

    def split(self, params: Params, step: int = 0) -> tuple[Params, Params]:
        """(parameters trained at a step, frozen parameters), with stacks cut at `cuts`."""

        def trained(path: Path) -> bool:
            setting = self.of(path)
            return setting.trainable and setting.unfreeze <= step

        return tree.partition(tree.recut(params, self.cuts), trained)

    def lines(self, **more: Sequence[str]) -> list[str]:
        """The printed table, line by line; `more` adds columns by name, with one text for every row."""
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
            lines.append(f"dropout {rate:g}: {some([site for site, x in self.dropout.items() if x == rate])}")
        return lines


def make_plan(
    config: PlanConfig,
    params: Params,
    num_layers: int,
    *,
    steps_per_epoch: int = 1,
    total_steps: int | None = None,
    dropout_sites: Sequence[str] = (),
    own: Sequence[Rule] = (),
) -> ParameterPlan:
    """Makes the plan: decides the setting of every parameter.

    Args:
      config: presets and the user's rules; in each column the user's rules come first, and the first matching rule wins.
      params: arrays or shapes, stacked.
      steps_per_epoch, total_steps: steps of the run, for the stages of unfreezing.
      own: rules between the user's and the presets', for parameters that presets do not know.

    Raises:
      UserError: for a parameter that no rule makes trainable or frozen, a user's rule that decides nothing, presets that
        contradict each other, a stage after the last step, or a plan that trains nothing.
    """
    names = tree.all_names(params)
    decided = decide(config, names, num_layers, COLUMNS, own)
    undecided = [name for name in names if name not in decided["trainable"]]
    if undecided and config.preset == "none":
        raise UserError(
            f"{len(undecided)} parameters are covered by no rule, first {undecided[0]}: say whether it is trainable"
        )
    rules = {name: {column: decided[column].get(name) for column in COLUMNS} for name in names}
    settings = {name: _setting(name, rules[name], steps_per_epoch, total_steps) for name in names}
    if not any(s.trainable for s in settings.values()):
        raise UserError("the plan trains nothing: make a rule trainable or choose another plan.preset")
    _refuse_idle(rules, settings)
    dropout_rules = decide(config, dropout_sites, num_layers, ["dropout"])["dropout"]
    plan = ParameterPlan(
        _rows(rules, settings, params),
        settings,
        tuple(tree.uniform_cuts(params, {name: _stack_key(s) for name, s in settings.items()})),
        {site: rule.cells["dropout"] for site, rule in dropout_rules.items()},
    )
    if plan.stages[0] > 0:
        raise UserError(f"the plan trains nothing before step {plan.stages[0]}: set unfreeze to 0 in at least one rule")
    return plan


def _setting(name: str, rules: Mapping[str, Rule | None], steps_per_epoch: int, total_steps: int | None) -> Setting:
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
    cell = cells.get("weight_decay", not re.search(NO_DECAY, re.sub(HEAD_NAME, "", name)))
    decay: bool | float = cell if isinstance(cell, bool) else cell or False
    return replace(setting, weight_decay=decay, unfreeze=start)


def _refuse_idle(rules: Mapping[str, Mapping[str, Rule | None]], settings: Mapping[str, Setting]) -> None:
    """Raises a UserError if a user's learning rate, decay, stage or schedule applies only to frozen parameters."""
    for column in ("learning_rate", "weight_decay", "unfreeze", "schedule"):
        decided: dict[Rule, list[str]] = {}
        for name, by_column in rules.items():
            rule = by_column[column]
            if rule and not rule.preset:
                decided.setdefault(rule, []).append(name)
        for rule, names in decided.items():
            if not any(settings[name].trainable for name in names):
                raise UserError(
                    f"{rule.where}: {column} has no effect, because all {len(names)} parameters that it decides are frozen, "
                    f"first {names[0]}: make them trainable, or leave it out"
                )


def _stack_key(setting: Setting) -> tuple[Any, ...]:
    """What all layers of a leaf must have in common. Numbers may differ: the optimizer takes one per layer."""
    decay = setting.weight_decay if isinstance(setting.weight_decay, bool) else "number"
    return setting.trainable, setting.unfreeze, setting.schedule, setting.adapter, decay


def _rows(
    rules: Mapping[str, Mapping[str, Rule | None]], settings: Mapping[str, Setting], params: Params
) -> tuple[Row, ...]:
    sizes = {name: tree.count(shape) for name, shape in tree.unstacked_shapes(params).items()}
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


def _decay(row: Row) -> str:
    if not row.setting.trainable:
        return "-"
    if row.decay_by_kind:
        return "by kind"
    decay = row.setting.weight_decay
    return ("yes" if decay else "no") if isinstance(decay, bool) else f"{decay:g}"
