"""The sections `optim` and `regularization`."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from jaxft.config.limits import (
    FinitePositiveFloat,
    Fraction,
    Limit,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ProperFraction,
    Rate,
    Section,
)

Schedule = Literal[
    "linear", "cosine", "cosine_restarts", "polynomial", "inverse_sqrt", "constant", "slanted_triangular", "plateau"
]


@dataclass(frozen=True)
class OptimConfig(Section):
    """Optimizer and learning-rate schedule."""

    name: str = "adamw"
    """adamw, adam, bert_adam (no bias correction), sgd, rmsprop, adagrad, adafactor, lion, lamb, muon; optax.NAME for any
    optimizer of optax; or module:function of your own, which returns an optax.GradientTransformation."""
    learning_rate: FinitePositiveFloat = 5e-5
    """Peak learning rate."""
    weight_decay: NonNegativeFloat = 0.01
    """Weight decay of the parameters that the plan applies it to (by default all but biases and LayerNorm). It is multiplied
    by the learning rate, or, in adam, sgd, rmsprop and adagrad, added to the gradient."""
    beta1: Rate | None = None
    """Decay of the first moment; null takes the optimizer's default, 0.9."""
    beta2: Rate | None = None
    """Decay of the second moment; null takes the optimizer's default, 0.999 (lion 0.99)."""
    epsilon: FinitePositiveFloat | None = None
    """Number added to the root of the second moment; null takes the optimizer's default (adamw 1e-8)."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Other arguments of the optimizer by name, such as {momentum: 0.9, nesterov: true} for sgd; docs/strategies.md lists
    them."""
    schedule: Schedule = "linear"
    """Learning rate after warm-up; plateau lowers it when evaluations stop getting better."""
    warmup: NonNegativeFloat = 0.1
    """Linear warm-up: a share of all steps if below 1, otherwise a number of steps."""
    cycles: PositiveInt = 1
    """cosine_restarts: number of half cosines."""
    power: FinitePositiveFloat = 1.0
    """polynomial: exponent."""
    end_factor: Fraction = 0.0
    """polynomial: learning rate of the last step, divided by the peak."""
    ratio: Annotated[float, Limit("1 or more", lambda x: 1 <= x < float("inf"))] = 32.0
    """slanted_triangular: peak divided by the learning rate at both ends."""
    plateau_factor: ProperFraction = 0.5
    """plateau: factor by which the learning rate is lowered."""
    plateau_patience: NonNegativeInt = 1
    """plateau: number of evaluations without a better eval.metric to wait for; the next one lowers the learning rate."""
    clip: FinitePositiveFloat | None = 1.0
    """Maximum global norm of the gradient; null disables clipping."""


@dataclass(frozen=True)
class RegularizationConfig(Section):
    """Regularisation besides dropout, weight decay and label smoothing; 0 turns a method off."""

    l1: NonNegativeFloat = 0.0
    """L1: weight of the sum of absolute values in the loss, over the parameters to which weight decay applies."""
    l2: NonNegativeFloat = 0.0
    """L2: weight of half the sum of squares in the loss, over the same parameters."""
    l2_sp: NonNegativeFloat = 0.0
    """L2-SP: as l2, but of the encoder's distance from the weights that the run started from."""
    l2_sp_head: NonNegativeFloat = 0.0
    """L2-SP's other half: l2 on heads alone."""
    mixout: Rate = 0.0
    """Mixout: probability, from 0 to below 1, with which a number in the encoder's kernels is replaced for one step by the
    one that the run started from."""
    r_drop: NonNegativeFloat = 0.0
    """R-Drop: weight of the symmetric KL divergence between two passes with different dropout masks; a step costs twice as
    much."""
    ema: Rate = 0.0
    """Decay, from 0 to below 1, of an exponential moving average of the trained parameters. The average is what is evaluated
    and exported."""
    neftune: NonNegativeFloat = 0.0
    """NEFTune: size alpha of the uniform noise on word embeddings in training; the paper takes 5 to 15."""
