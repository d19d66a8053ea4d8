"""The section `plan`: which parameters are trained, and how."""

import typing
from dataclasses import dataclass, field
from typing import Annotated, Literal

from jaxft.config.durations import StageDuration, UnfreezeTime
from jaxft.config.limits import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Rate, Section, one_of, require
from jaxft.config.optim import Schedule
from jaxft.core.errors import UserError

Preset = Literal[
    "full",
    "head",
    "last_n",
    "freeze_embeddings",
    "bias",
    "norms",
    "gradual",
    "layerwise_decay",
    "reinit",
    "new_tokens",
    "lora",
    "adapters",
    "none",
]


@dataclass(frozen=True)
class RuleConfig(Section):
    """One row of the parameter plan: settings of the parameters that match. A null leaves a setting to the rows below."""

    pattern: str
    """Regular expression searched in the dotted parameter path, such as encoder.layer.3.attention.self.query.kernel."""
    trainable: bool | None = None
    """Whether the parameters are trained; frozen ones have no gradient, no moments and no decay."""
    learning_rate: NonNegativeFloat | None = None
    """Multiplier of the learning rate."""
    weight_decay: bool | NonNegativeFloat | None = None
    """Whether optim.weight_decay applies, or the weight decay of these parameters; if no row decides, it applies to kernels
    and embeddings but not to biases and LayerNorm."""
    unfreeze: UnfreezeTime | None = None
    """How long the parameters stay frozen: steps (500) or text (0.5 epochs); 0 trains them from the start."""
    schedule: Annotated[str, one_of(*typing.get_args(Schedule))] | None = None
    """Schedule of these parameters, in place of optim.schedule."""
    adapter: bool | None = None
    """Whether the layer gets an adapter, if the plan has any."""
    init: Annotated[str, one_of("keep", "random")] | None = None
    """Initial values: keep takes those of the checkpoint, random draws new ones as Hugging Face initialises them."""
    dropout: Rate | None = None
    """Dropout rate, from 0 to below 1, at the dropout sites whose names match: encoder.embeddings.dropout,
    encoder.layer.3.attention.self.dropout (probabilities), .attention.output, .output, heads.main.dropout."""

    def check(self, prefix: str) -> None:
        """A row decides something."""
        cells = {key: value for key, value in vars(self).items() if key != "pattern"}
        if set(cells.values()) == {None}:
            raise UserError(f"{prefix}is null in every column: set at least one of {', '.join(cells)}")


@dataclass(frozen=True)
class LoraConfig(Section):
    """Preset lora: low-rank adaptation (Hu et al. 2021, arXiv:2106.09685)."""

    rank: PositiveInt = 8
    """Number of columns of A and of rows of B."""
    alpha: PositiveFloat = 8.0
    """The product A B is multiplied by alpha / rank."""
    dropout: Rate = 0.0
    """Dropout rate before A, from 0 to below 1."""
    rank_stabilized: bool = False
    """Multiply by alpha / sqrt(rank) instead (arXiv:2312.03732)."""
    dora: bool = False
    """Train the norms of the kernels' columns separately from their directions (arXiv:2402.09353)."""
    targets: str | list[str] | None = None
    """Regular expressions searched in the paths of the encoder's dense layers, such as attention.self.query; all takes
    every dense layer of the layers, null those of query and value."""


@dataclass(frozen=True)
class AdaptersConfig(Section):
    """Preset adapters: bottleneck adapters."""

    kind: Literal["houlsby", "pfeiffer"] = "houlsby"
    """houlsby puts adapters after both sublayers and trains norms, too (arXiv:1902.00751); pfeiffer puts them after the
    feed-forward sublayer (arXiv:2005.00247)."""
    size: PositiveInt = 64
    """Number of features of the bottleneck."""
    activation: str = "gelu"
    """Activation between the two dense layers: a name of Hugging Face's ACT2FN."""


@dataclass(frozen=True)
class PlanConfig(Section):
    """Which parameters are trained, and how."""

    preset: Preset | list[Preset] = "full"
    """Preset that writes the rows of the plan, or several together; none uses only your own rules. docs/strategies.md says
    which to choose."""
    n: NonNegativeInt = 2
    """last_n: number of layers that are trained, counted from the top; 0 trains pooler and head."""
    unfreeze_every: StageDuration = "1 epoch"
    """gradual: steps (500) or text (0.5 epochs) between two stages."""
    unfreeze_layers: PositiveInt = 1
    """gradual: number of layers that a stage unfreezes, from the top down; the last stage also unfreezes the embeddings."""
    layer_decay: PositiveFloat = 0.95
    """layerwise_decay: factor of the learning rate from each layer to the one below it."""
    reinit_layers: PositiveInt = 1
    """reinit: number of layers that start from random values, counted from the top."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    adapters: AdaptersConfig = field(default_factory=AdaptersConfig)
    rules: list[RuleConfig] = field(default_factory=list)
    """Your own rows, which come before those of the presets. The first row that matches and is not null in a setting decides
    it."""

    def presets(self) -> list[str]:
        """Names of the presets, as a list."""
        return [self.preset] if isinstance(self.preset, str) else list(self.preset)

    def check(self, prefix: str) -> None:
        """Presets that go together, and rules within their limits."""
        name, presets = f"{prefix}preset", self.presets()
        require(0 < len(set(presets)) == len(presets), name, self.preset, "one or more different names")
        require("none" not in presets or len(presets) == 1, name, self.preset, "none alone, or presets without none")
        require(not {"lora", "adapters"} <= set(presets), name, self.preset, "lora or adapters, not both")
        if presets == ["none"] and not self.rules:
            raise UserError(f"{name} is none and {prefix}rules is empty: write rules or choose a preset")
        for rule in self.rules:
            rule.validate(f'{prefix}rules "{rule.pattern}" ')
