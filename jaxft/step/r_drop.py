"""R-Drop (Liang et al. 2021, arXiv:2106.14448): two passes with other dropout masks are to agree."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxft.core.random_streams import OfMicroBatch
from jaxft.losses import WeightedSum
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import LossFn
from jaxft.tasks.task import Task


def with_r_drop(loss_fn: LossFn, task: Task, alpha: float) -> LossFn:
    """The mean loss of two passes and alpha times the symmetric KL divergence of their predictions.

    KL(p || q) + KL(q || p) halved, by the task's own softmax, sigmoids or squared distance; gradients flow into both.
    """

    def loss(
        params: Parameters, batch: dict[str, jax.Array], key: jax.Array | None, hyper: Mapping[str, Any]
    ) -> tuple[WeightedSum, dict[str, jax.Array]]:
        if key is None:
            return loss_fn(params, batch, key, hyper)
        (first, weight), p = loss_fn(params, batch, key, hyper)
        (second, _), q = loss_fn(params, batch, jax.random.fold_in(key, OfMicroBatch.SECOND_PASS), hyper)
        # A cross-entropy less the entropy of its target is the divergence.
        pairs = ((p, q, 1), (q, q, -1), (q, p, 1), (p, p, -1))
        apart = sum(sign * task.soft_loss(own, target, batch, 1.0)[0] for own, target, sign in pairs)
        return ((first + second) / 2 + alpha * apart / 2, weight), p

    return loss
