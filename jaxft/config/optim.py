"""The options of optimizer, schedule and regularisation: two sections of `Config`, which see for the rest."""

from dataclasses import dataclass, field
from typing import Any, Literal

Schedule = Literal[
    "linear",
    "cosine",
    "cosine_restarts",
    "polynomial",
    "inverse_sqrt",
    "constant",
    "slanted_triangular",
    "plateau",
]


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule."""

    name: str = "adamw"
    """adamw, adam, bert_adam (no bias correction), sgd, rmsprop, adagrad, adafactor, lion, lamb, muon; or optax.NAME, any
    optimizer of optax."""
    learning_rate: float = 5e-5
    """Peak learning rate."""
    weight_decay: float = 0.01
    """Weight decay where the plan lets it apply (never biases and LayerNorm by default): times the learning rate, or, in
    adam, sgd, rmsprop and adagrad, added to the gradient."""
    beta1: float | None = None
    """Decay of the first moment; null takes the optimizer's own, 0.9."""
    beta2: float | None = None
    """Decay of the second moment; null takes the optimizer's own, 0.999 (lion 0.99)."""
    epsilon: float | None = None
    """Added to the root of the second moment; null takes the optimizer's own (adamw 1e-8)."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Other numbers of the optimizer by name, such as {momentum: 0.9, nesterov: true} for sgd; docs/strategies.md lists
    them."""
    schedule: Schedule = "linear"
    """Learning rate after warm-up; plateau lowers it when evaluations stop getting better."""
    warmup: float = 0.1
    """Linear warm-up: a share of all steps when below 1, else a number of steps."""
    cycles: int = 1
    """cosine_restarts: number of half cosines."""
    power: float = 1.0
    """polynomial: its exponent."""
    end_factor: float = 0.0
    """polynomial: learning rate of the last step over the peak."""
    ratio: float = 32.0
    """slanted_triangular: peak over the learning rate at both ends."""
    plateau_factor: float = 0.5
    """plateau: what the learning rate is multiplied by."""
    plateau_patience: int = 1
    """plateau: evaluations without a better eval.metric that are waited for; the next one lowers the learning rate."""
    clip: float | None = 1.0
    """Largest global norm of the gradient; null does not clip."""


@dataclass(frozen=True)
class RegularizationConfig:
    """Regularisation beside dropout, weight decay and label smoothing; 0 is off. Penalties are for one optimizer step."""

    l1: float = 0.0
    """L1: this times the sum of absolute values is added to the loss, over the parameters where weight decay applies."""
    l2: float = 0.0
    """L2: half of this times the sum of squares is added to the loss, over the same parameters."""
    l2_sp: float = 0.0
    """L2-SP: as l2, but of the encoder's distance from the weights that the run started from."""
    l2_sp_head: float = 0.0
    """L2-SP's other half: l2 on heads alone."""
    mixout: float = 0.0
    """Mixout: probability, 0 to 1, with which each number of the encoder's kernels is in a step that of the start."""
    r_drop: float = 0.0
    """R-Drop: weight of the symmetric KL divergence between two passes with other dropout masks; a step costs two."""
    ema: float = 0.0
    """Decay, 0 to 1, of an exponential moving average of the trained parameters, which is what is evaluated and exported."""
    neftune: float = 0.0
    """NEFTune: size alpha of uniform noise on word embeddings in training; the paper takes 5 to 15."""
