"""R-Drop (Liang et al. 2021, arXiv:2106.14448): two passes with different dropout masks shall predict the same."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxft.core.random_streams import OfMicroBatch
from jaxft.losses import WeightedSum, kl_divergence
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import Batch, LossFn, Outputs
from jaxft.tasks.task import Task


def with_r_drop(loss_fn: LossFn, task: Task, alpha: float) -> LossFn:
    """The mean loss of two passes plus alpha times the symmetric KL divergence of their predictions.

    The divergence is the mean of KL(p || q) and KL(q || p), computed with the task's own softmax, sigmoids or squared
    distance; gradients flow into both passes.
    """

    def loss(
        params: Parameters, batch: Batch, key: jax.Array | None, hyper: Mapping[str, Any]
    ) -> tuple[WeightedSum, Outputs]:
        if key is None:
            return loss_fn(params, batch, key, hyper)
        (first, weight), p = loss_fn(params, batch, key, hyper)
        (second, _), q = loss_fn(params, batch, jax.random.fold_in(key, OfMicroBatch.SECOND_PASS), hyper)
        pairs = [*task.soft_pairs(p, q, batch), *task.soft_pairs(q, p, batch)]
        divergence = sum(pair.share * kl_divergence(pair, 1.0)[0] for pair in pairs)
        return ((first + second) / 2 + alpha * divergence / 2, weight), p

    return loss
