"""The options of the parameter plan; a part of the schema in config.py."""

from dataclasses import dataclass, field
from typing import Literal

Duration = int | str  # steps (500), or text: "500 steps", "1 epoch", "0.5 epochs", "end"
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
class RuleConfig:
    """One row of the parameter plan: what the parameters that match are. It leaves what is null to the rows below it."""

    pattern: str
    """Regular expression searched in the dotted parameter path, such as encoder.layer.3.attention.self.query.kernel."""
    trainable: bool | None = None
    """Whether the parameters are trained; frozen ones get no gradient, no moments and no decay."""
    learning_rate: float | None = None
    """Multiplier of the learning rate."""
    weight_decay: bool | float | None = None
    """Whether optim.weight_decay applies, or a decay of their own; where no row decides, the kind does: kernels and
    embeddings yes, biases and LayerNorm no."""
    unfreeze: Duration | None = None
    """Frozen until then: steps (500) or text (0.5 epochs); 0 is from the start."""
    schedule: str | None = None
    """A schedule of their own instead of optim.schedule."""
    adapter: bool | None = None
    """Whether the layer gets an adapter, where the plan has any."""
    init: str | None = None
    """keep starts from the checkpoint, random from new values, drawn as Hugging Face initialises them."""
    dropout: float | None = None
    """Dropout rate, 0 to 1, at the places that match, which have names of their own: encoder.embeddings.dropout,
    encoder.layer.3.attention.self.dropout (probabilities), .attention.output, .output, heads.main.dropout."""


@dataclass(frozen=True)
class LoraConfig:
    """Preset lora: low-rank adaptation (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = 8
    """Columns of A, rows of B."""
    alpha: float = 8.0
    """A B is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Dropout rate before A, 0 to 1."""
    rank_stabilized: bool = False
    """Multiply by alpha / sqrt(rank) instead (arXiv:2312.03732)."""
    dora: bool = False
    """Train the lengths of the kernels' columns apart from their directions (arXiv:2402.09353)."""
    targets: str | list[str] | None = None
    """Regular expressions searched in the paths of the encoder's dense layers, such as attention.self.query; all takes
    every dense layer of the layers, null those of query and value."""


@dataclass(frozen=True)
class AdaptersConfig:
    """Preset adapters: bottleneck adapters."""

    kind: Literal["houlsby", "pfeiffer"] = "houlsby"
    """houlsby: after both sublayers, and norms are trained, too (arXiv:1902.00751); pfeiffer: after the feed-forward
    sublayer (arXiv:2005.00247)."""
    size: int = 64
    """Features of the narrow side."""
    activation: str = "gelu"
    """Between the two dense layers: a name of Hugging Face's ACT2FN."""


@dataclass(frozen=True)
class PlanConfig:
    """Which parameters are trained, and how."""

    preset: Preset | list[Preset] = "full"
    """Rows written by a preset, or by several together; none uses only your own rules. docs/strategies.md says which to
    choose."""
    n: int = 2
    """Layers that last_n trains, counted from the top; 0 trains pooler and head."""
    unfreeze_every: Duration = "1 epoch"
    """gradual: steps (500) or text (0.5 epochs) between two stages."""
    unfreeze_layers: int = 1
    """gradual: layers that a stage unfreezes, from the top down; the last stage also unfreezes the embeddings."""
    layer_decay: float = 0.95
    """layerwise_decay: multiplier of the learning rate from each layer to the one below it."""
    reinit_layers: int = 1
    """reinit: layers that start from random values, counted from the top."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    adapters: AdaptersConfig = field(default_factory=AdaptersConfig)
    rules: list[RuleConfig] = field(default_factory=list)
    """Rows of your own, before the presets'. Each column by itself is decided by the first row that matches and is not
    null there."""

    def presets(self) -> list[str]:
        """Names of the presets, as a list."""
        return [self.preset] if isinstance(self.preset, str) else list(self.preset)
