"""Consistency training on texts without labels: UDA (Xie et al. 2020, arXiv:1904.12848).

A text without a label and its augmented version are a pair of neighbouring slots, the text first. The model's distribution
for the text is the target of its distribution for the augmented version, and no gradient flows into the target.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxft.data.augmentation.pairs import LABELLED
from jaxft.losses import OutputPair, WeightedSum, kl_divergence
from jaxft.step.pairs import COUNTS
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import STEP, Batch, LossFn, Outputs

Array = jax.Array
Annealing = Literal["none", "linear", "exp", "log"]


@dataclass(frozen=True)
class Consistency:
    """The options of UDA, with the names of the paper.

    Attributes:
      weight: lambda, the weight of the consistency loss.
      temperature: tau; below 1 it sharpens the target.
      confidence: beta; pairs whose target has no probability of at least this have loss 0.
      annealing: training signal annealing (TSA): a labelled example does not count while its label is more probable than a
        threshold, which rises from 1 / labels to 1 over the run.
      total_steps: of the run.
      micro_batches: of a step; must be 1 for TSA and class weights, so that the denominators of both means are known.
    """

    weight: float
    temperature: float
    confidence: float
    annealing: Annealing
    total_steps: int
    micro_batches: int = 1

    def threshold(self, step: Array, labels: int) -> Array:
        """The threshold of TSA at a step, numbered from 0."""
        progress = step.astype(jnp.float32) / self.total_steps
        alpha = {
            "none": jnp.ones_like(progress),
            "linear": progress,
            "exp": jnp.exp(5 * (progress - 1)),
            "log": 1 - jnp.exp(-5 * progress),
        }[self.annealing]
        return alpha * (1 - 1 / labels) + 1 / labels

    def loss(self, logits: Array, batch: Batch) -> Array:
        """The sum of KL(target || prediction) over the pairs of a micro-batch.

        Args:
          logits: [R, M, labels].
          batch: `weights`, LABELLED [R, M].
        """
        original = jax.lax.stop_gradient(jnp.roll(logits, 1, axis=1))  # of the slot before
        target = original / self.temperature
        second = jax.lax.broadcasted_iota(jnp.int32, logits.shape[:2], 1) % 2
        confident = jax.nn.softmax(original, axis=-1).max(-1) >= self.confidence
        weights = batch["weights"] * (1 - batch[LABELLED]) * second * confident
        return kl_divergence(OutputPair("softmax", logits, target, weights), 1.0)[0]

    def easy(self, logits: Array, labels: Array, step: Array) -> Array:
        """Whether TSA leaves labelled examples out: bool [R, M], from their logits [R, M, labels] and labels [R, M]."""
        probability = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), labels[..., None], axis=-1)[..., 0]
        return jax.lax.stop_gradient(probability) > self.threshold(step, logits.shape[-1])


def with_consistency(
    loss_fn: LossFn, task_loss: Callable[[Outputs, Batch, bool], WeightedSum], consistency: Consistency
) -> LossFn:
    """The loss of the labelled examples plus the consistency loss of the pairs.

    Both are means: the first over the labelled examples that count (by their class weights), the second over all pairs of
    the step, confident or not. `loss_fn` sees labelled examples only; with TSA it must be the task's own, `task_loss`.
    """

    def loss(params: Parameters, batch: Batch, key: Array | None, hyper: Mapping[str, Any]) -> tuple[WeightedSum, Outputs]:
        if key is None:
            return loss_fn(params, batch, key, hyper)
        weights = batch["weights"] * batch[LABELLED]
        (total, weight), outputs = loss_fn(params, batch | {"weights": weights}, key, hyper)
        if consistency.annealing != "none":
            weights *= ~consistency.easy(outputs["logits"], batch["labels"], hyper[STEP])
            total, weight = task_loss(outputs, batch | {"weights": weights}, True)
        labelled, pairs = batch[COUNTS]
        if consistency.micro_batches == 1:
            weight = labelled = jnp.where(weight > 0, weight, 1.0)  # TSA may leave all labelled examples out
        second = consistency.loss(outputs["logits"], batch) * consistency.weight / pairs
        return (total + second * labelled, weight), outputs

    return loss
