"""The sections `train`, `eval`, `checkpoint` and `distill`: the loop and what it does on its way."""

from dataclasses import dataclass, field
from typing import Literal

from jaxft.config.durations import Duration
from jaxft.config.limits import Fraction, NonNegativeFloat, PathText, PositiveFloat, PositiveInt, Rate, Section
from jaxft.core.errors import UserError


@dataclass(frozen=True)
class TrainConfig(Section):
    """The training loop."""

    epochs: PositiveFloat = 3.0
    """Number of passes over the training examples."""
    max_steps: PositiveInt | None = None
    """Number of optimizer steps after which training stops, whatever `epochs` says; null follows epochs."""
    batch_size: PositiveInt = 32
    """Examples per optimizer step, over all devices and micro-batches."""
    micro_batches: PositiveInt = 1
    """Number of parts into which each batch is split, to save memory; they are computed one after the other."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations and matrix products; parameters and moments stay float32."""
    label_smoothing: Rate = 0.0
    """Probability that is spread over all labels, from 0 to below 1."""
    patience: PositiveInt | None = None
    """Number of evaluations without a better eval.metric after which training stops; null never stops early."""
    min_delta: NonNegativeFloat = 0.0
    """Smallest change of eval.metric that counts as better."""
    hooks: list[str] = field(default_factory=list)
    """Hooks of your own, called at steps, evaluations, checkpoints and the end: module:Class, a subclass of
    jaxft.training.hooks.Hook in a module of the working directory or the Python path."""

    def check(self, prefix: str) -> None:
        """Every micro-batch has an example."""
        if self.micro_batches > self.batch_size:
            raise UserError(
                f"{prefix}micro_batches is {self.micro_batches} but {prefix}batch_size is {self.batch_size}: a micro-batch "
                "needs at least one example"
            )


@dataclass(frozen=True)
class EvalConfig(Section):
    """Evaluation during and after training."""

    every: Duration = "1 epoch"
    """Steps (500) or text (0.5 epochs) between evaluations; end evaluates only after the last step."""
    metric: str | None = None
    """Metric that chooses the best model; null takes the default of the task (docs/tasks.md lists them)."""
    metrics: list[str] = field(default_factory=list)
    """Metrics of your own in addition to the task's: module:function, (task, summary, split) -> number."""
    batch_size: PositiveInt = 128
    """Examples per evaluation step."""


@dataclass(frozen=True)
class CheckpointConfig(Section):
    """Checkpoints and the model that a run leaves."""

    every: Duration = "1 epoch"
    """Steps (500) or text (0.5 epochs) between checkpoints; end writes only the last."""
    keep: PositiveInt = 2
    """Number of latest checkpoints that are kept."""
    select: Literal["best", "last"] = "best"
    """Parameters that become model/: those with the best eval.metric (if there is validation data), or the last."""
    flax: bool = False
    """Also write flax_model.msgpack beside model.safetensors."""


@dataclass(frozen=True)
class DistillConfig(Section):
    """Knowledge distillation; see Hinton et al. 2015, arXiv:1503.02531."""

    teacher: PathText | None = None
    """Directory or hub id of a fine-tuned model of the same task, whose soft labels are learnt; null does not distil."""
    temperature: PositiveFloat = 2.0
    """Temperature of both softmaxes; the soft loss is multiplied by its square."""
    alpha: Fraction = 0.5
    """Weight of the soft loss, from 0 to 1; the hard loss gets the rest."""
