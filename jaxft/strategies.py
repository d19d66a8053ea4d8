"""The parameter plan: one table, made from path rules, of what is trained and how. Presets write its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jaxft import tree
from jaxft.config import PlanConfig
from jaxft.errors import UserError
from jaxft.tree import Params, Path

# Hugging Face's Trainer: no norm, and nothing with "bias" in its name, MPNet's table of relative biases included.
NO_DECAY = r"bias|\.scale$"


@dataclass(frozen=True)
class Setting:
    """What a parameter is: one row of the plan.

    Attributes:
      trainable: frozen parameters get no gradient, no moments, no decay.
      learning_rate: multiplier.
      weight_decay: whether decay applies; None decides by the kind of the parameter.
      schedule: of the learning rate; None is optim.schedule.
    """

    trainable: bool = True
    learning_rate: float = 1.0
    weight_decay: bool | None = None
    schedule: str | None = None


@dataclass(frozen=True)
class Row:
    """A rule with what it decided, for the printed table."""

    pattern: str
    setting: Setting
    parameters: int
    tensors: int


@dataclass(frozen=True)
class ParameterPlan:
    """The plan of a run.

    Attributes:
      rows: the table.
      settings: dotted parameter name -> setting with weight decay decided.
      cuts: layer numbers at which the stacks are cut so that each leaf has one setting.
    """

    rows: tuple[Row, ...]
    settings: Mapping[str, Setting]
    cuts: tuple[int, ...]

    def of(self, path: Path) -> Setting:
        """The setting of a leaf of a tree that is cut at `cuts`."""
        return self.settings[tree.names(path)[0]]

    def split(self, params: Params) -> tuple[Params, Params]:
        """(trainable, frozen) parameters, cut at `cuts`."""
        return tree.partition(tree.recut(params, self.cuts), lambda path: self.of(path).trainable)

    def lines(self) -> list[str]:
        """The table, for people."""
        head = ("rule", "trained", "lr x", "decay", "tensors", "parameters")
        body = [
            (
                row.pattern,
                "yes" if row.setting.trainable else "no",
                f"{row.setting.learning_rate:g}" if row.setting.trainable else "-",
                _decay(row.setting),
                str(row.tensors),
                f"{row.parameters:,}",
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
        return ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in (head, *body)]


def make_plan(config: PlanConfig, params: Params, num_layers: int) -> ParameterPlan:
    """Decide every parameter.

    Args:
      config: preset and own rules; own rules come first, the first match wins.
      params: arrays or shapes, stacked.
      num_layers: of the encoder.

    Raises:
      UserError: for a parameter that no rule covers, a rule of the user that decides nothing, or a plan that trains
        nothing.
    """
    own = [(r.pattern, Setting(r.trainable, r.learning_rate, r.weight_decay)) for r in config.rules]
    rules = [*own, *_preset(config, num_layers)]
    dotted = tree.all_names(params)
    numbered = [(pattern, i) for i, (pattern, _) in enumerate(rules)]
    chosen = tree.first_match(numbered, dotted, must_match=len(own))
    decay = tree.first_match([(NO_DECAY, False), ("", True)], dotted)
    settings = {}
    for name, i in chosen.items():
        setting = rules[i][1]
        decayed = decay[name] if setting.weight_decay is None else setting.weight_decay
        settings[name] = replace(setting, weight_decay=decayed and setting.trainable)
    if not any(s.trainable for s in settings.values()):
        raise UserError("the plan trains nothing: make a rule trainable or choose another plan.preset")
    sizes = _sizes(params)
    rows = []
    for i, (pattern, setting) in enumerate(rules):
        mine = [name for name, j in chosen.items() if j == i]
        if mine:
            rows.append(Row(pattern or "(everything else)", setting, sum(sizes[name] for name in mine), len(mine)))
    return ParameterPlan(tuple(rows), settings, tuple(tree.uniform_cuts(params, settings)))


def _preset(config: PlanConfig, num_layers: int) -> list[tuple[str, Setting]]:
    train, freeze = Setting(True), Setting(False)
    if config.preset == "none":
        return []
    if config.preset == "head":
        return [(r"^heads\.", train), ("", freeze)]
    if config.preset == "freeze_embeddings":
        return [(r"^encoder\.embeddings\.", freeze), ("", train)]
    if config.preset == "last_n":
        if config.n > num_layers:
            raise UserError(f"plan.n is {config.n} but the encoder has {num_layers} layers")
        top = "|".join(str(i) for i in range(num_layers - config.n, num_layers))
        layers = [(rf"^encoder\.layer\.({top})\.", train)] if config.n else []
        return [(r"^heads\.", train), (r"^encoder\.pooler\.", train), *layers, ("", freeze)]
    return [("", train)]


def _sizes(params: Params) -> dict[str, int]:
    sizes = {}
    for path, leaf in tree.flatten(params).items():
        path_names = tree.names(path)
        sizes |= {name: tree.count(leaf) // len(path_names) for name in path_names}
    return sizes


def _decay(setting: Setting) -> str:
    if not setting.trainable:
        return "-"
    return {None: "by kind", True: "yes", False: "no"}[setting.weight_decay]
