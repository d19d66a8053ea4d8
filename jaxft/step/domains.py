"""Domain-adversarial training: DANN (Ganin et al. 2016, arXiv:1505.07818).

A classifier learns to tell the domain of a text from the hidden state of its first token. The encoder gets the gradient of
the classifier's loss reversed, so it learns hidden states in which domains look alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.losses import WeightedSum, cross_entropy
from jaxft.models.encoder.encoder import gather
from jaxft.step.domain_head import HEAD, domain_logits
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import METRICS, STEP, Batch, LossFn, Outputs
from jaxft.tasks.task import Task

Array = jax.Array
DOMAIN = "domain"  # column of the examples: the number of the domain, int32 [N]
COUNTS = "counts_of_domains"  # float32 [K, 2]: the weight of the task's loss, and the examples of the whole step


@jax.custom_vjp
def reversed_gradient(x: Array, factor: Array) -> Array:
    """`x`, whose gradient is multiplied by -`factor`, a scalar."""
    del factor
    return x


def _backward(factor: Array, g: Array) -> tuple[Array, Array]:
    return -factor.astype(g.dtype) * g, jnp.zeros_like(factor)


reversed_gradient.defvjp(lambda x, factor: (x, factor), _backward)


@dataclass(frozen=True)
class DomainLoss:
    """The loss of the domain classifier.

    Attributes:
      weight: the largest factor of the reversed gradient.
      gamma: how fast it is reached.
      total_steps: of the run.
      output: the encoder's output that the classifier reads, hidden states [R, T, D].
    """

    weight: float
    gamma: float
    total_steps: int
    output: str

    def factor(self, step: Array) -> Array:
        """lambda = weight (2 / (1 + exp(-gamma p)) - 1) at a step, numbered from 0, where p is the share of steps done."""
        progress = jnp.asarray(step, jnp.float32) / self.total_steps
        return self.weight * (2 / (1 + jnp.exp(-self.gamma * progress)) - 1)

    def __call__(self, params: Parameters, outputs: Outputs, batch: Batch, step: Array) -> tuple[Array, Outputs]:
        """(the sum of the cross-entropies over the examples of a micro-batch, its part of the step's metrics).

        Args:
          params: all parameters of the run, with the classifier.
          outputs: of the model, with `output`.
          batch: `first_token` [R, M * texts], `example` and DOMAIN [R, M], COUNTS [2]; an example of several texts divides
            its weight among them.
          step: the number of the step.
        """
        first, factor = batch["first_token"], self.factor(step)
        texts = first.shape[1] // batch["example"].shape[1]
        weights = jnp.repeat((batch["example"] >= 0).astype(jnp.float32), texts, axis=1) / texts
        domain = jnp.repeat(batch[DOMAIN], texts, axis=1)
        hidden = reversed_gradient(gather(outputs[self.output], first), factor)
        logits = domain_logits(params.model["heads"][HEAD], hidden)
        total, weight = cross_entropy(logits, domain, weights)
        right = ((jnp.argmax(logits, -1) == domain) * weights).sum()
        sums = {"loss": total, "accuracy": right, "lambda": factor * weight}
        return total, {f"{METRICS}domains/{name}": x / batch[COUNTS][1] for name, x in sums.items()}


def with_domains(loss_fn: LossFn, domain_loss: DomainLoss) -> LossFn:
    """The task's loss plus that of the domain classifier, each a mean over the step: the first over what the task weighs,
    the second over all examples.

    `loss_fn` also returns the output of the encoder that the classifier reads.
    """

    def loss(params: Parameters, batch: Batch, key: Array | None, hyper: Mapping[str, Any]) -> tuple[WeightedSum, Outputs]:
        (total, weight), outputs = loss_fn(params, batch, key, hyper)
        if key is None:
            return (total, weight), outputs
        with jax.named_scope("domains"):
            second, metrics = domain_loss(params, outputs, batch, hyper[STEP])
            of_task, examples = batch[COUNTS]
            total += second * jnp.where(of_task > 0, of_task, 1.0) / examples  # the step divides by the weight of the task
        return (total, weight), {**outputs, **metrics}

    return loss


def count_domains(task: Task, batch: Batch) -> Batch:
    """The batch of a step, [K, R, ...] arrays, with COUNTS."""
    of_task = jax.vmap(task.text_weights)(batch).sum()
    counts = jnp.stack([of_task, (batch["example"] >= 0).sum().astype(jnp.float32)])
    return batch | {COUNTS: jnp.tile(counts[None], (batch["weights"].shape[0], 1))}
