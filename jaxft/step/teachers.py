"""Several teachers as one: their outputs side by side, and the mean of them that the student is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.losses import OutputPair
from jaxft.losses.teachers import mean_teacher
from jaxft.step.distillation import TeacherOutputs
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import Batch, Outputs

CHOSEN = "teacher"  # per-example column of a batch: the number of its teacher, int32 [R, M]
OF_LOGITS = frozenset({"mse", "rkd"})  # losses that compare logits, not probabilities


def side_by_side(teachers: Sequence[TeacherOutputs]) -> TeacherOutputs:
    """The outputs of all teachers as those of one, under the names `0.logits`, `1.logits` and so on."""

    def run(params: Parameters, batch: Batch) -> Outputs:
        return {f"{i}.{name}": x for i, teacher in enumerate(teachers) for name, x in teacher(params, batch).items()}

    return run


@dataclass(frozen=True)
class MeanOfTeachers:
    """A task as `with_teacher` uses it, for outputs from `side_by_side`.

    Attributes:
      task: of the run.
      weights: of each teacher, with the sum 1; a batch with the column CHOSEN chooses one teacher for each example instead.
      loss, temperature: of the config.
    """

    task: Any
    weights: tuple[float, ...]
    loss: str
    temperature: float

    def text_weights(self, batch: Batch) -> jax.Array:
        """Those of the task."""
        return self.task.text_weights(batch)

    def soft_pairs(self, outputs: Outputs, teacher: Mapping[str, jax.Array], batch: Batch) -> list[OutputPair]:
        """The task's pairs against the mean of the teachers (see `mean_teacher`)."""
        weights = jnp.asarray(self.weights, jnp.float32)
        if CHOSEN in batch:
            weights = jnp.moveaxis(jax.nn.one_hot(batch[CHOSEN], len(self.weights)), -1, 0)
        each = []
        for i in range(len(self.weights)):
            own = {name.partition(".")[2]: x for name, x in teacher.items() if name.startswith(f"{i}.")}
            each.append(self.task.soft_pairs(outputs, own, batch))
        options = {"temperature": self.temperature, "of_logits": self.loss in OF_LOGITS}
        return [mean_teacher(pairs, weights, **options) for pairs in zip(*each, strict=True)]
