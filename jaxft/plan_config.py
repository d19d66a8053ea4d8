"""The options of the parameter plan; a part of the schema in config.py."""

from dataclasses import dataclass, field
from typing import Literal

Duration = int | str  # steps (500), or text: "500 steps", "1 epoch", "0.5 epochs", "end"
Schedule = Literal["linear", "cosine", "constant"]
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
    rules: list[RuleConfig] = field(default_factory=list)
    """Rows of your own, before the presets'. Each column by itself is decided by the first row that matches and is not
    null there."""
