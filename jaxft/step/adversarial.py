"""Adversarial training: the loss of word embeddings that are changed in the direction that raises it most.

FGM (Miyato et al. 2017, arXiv:1605.07725), PGD (Madry et al. 2018, arXiv:1706.06083) and FreeLB (Zhu et al. 2020,
arXiv:1909.11764) differ in where they start and in which of the losses on the way count. SMART (Jiang et al. 2020,
arXiv:1911.03437) and VAT (Miyato et al. 2018, arXiv:1704.03976) need no labels: they raise the distance between the
predictions for a text and for the changed text. Dropout masks are the same in all passes of a step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.config.adversarial import AdversarialConfig
from jaxft.losses import WeightedSum, kl_divergence
from jaxft.step.gradients_within import Leaves, with_own_gradients
from jaxft.step.parameters import Parameters
from jaxft.step.perturbation import PERTURBATION, Perturbation
from jaxft.step.train_step import Batch, LossFn, Outputs
from jaxft.tasks.task import Task

Array = jax.Array
ON_LABELS = ("fgm", "pgd", "freelb")
RANDOM_STARTS = ("freelb", "smart", "vat")


@dataclass(frozen=True)
class Ascent:
    """Steps that raise a loss.

    Attributes:
      weights: of the losses at the perturbations, the first of which is the start; a step lies between two of them.
      size: norm of a step.
    """

    weights: tuple[float, ...]
    size: float


def with_adversary(loss_fn: LossFn, config: AdversarialConfig, width: int) -> LossFn:
    """The weighted sum of the losses at the perturbations of FGM, PGD or FreeLB.

    fgm: L(x) + weight L(x + r) with r = epsilon g / |g|; pgd: the same with r after several steps from 0, each projected to
    the ball; freelb: the mean of the losses before each of its steps, the first at a random start.

    Args:
      loss_fn: the loss of a micro-batch; it adds the batch's PERTURBATION to its word embeddings.
      config: with one of these methods.
      width: of word embeddings.
    """
    ascent, start = _ascent(config)

    def compute(
        join: Callable[[Leaves], Parameters], trained: Leaves, batch: Batch, key: Array, hyper: Mapping[str, Any]
    ) -> tuple[WeightedSum, Leaves]:
        space = _space(batch, config, width)

        def at(own: Leaves, perturbation: Array) -> WeightedSum:
            return loss_fn(join(own), batch | {PERTURBATION: perturbation}, key, hyper)[0]

        def step(carry: Any, loss_weight: Array) -> Any:
            perturbation, total, gradients = carry
            (loss, weight), (own, outward) = jax.value_and_grad(at, (0, 1), has_aux=True)(trained, perturbation)
            gradients = [a + (loss_weight * g).astype(a.dtype) for a, g in zip(gradients, own, strict=True)]
            perturbation = space.projected(perturbation + ascent.size * space.direction(outward))
            return (perturbation, total + loss_weight * loss, gradients), weight

        begin = space.projected(space.uniform(start)) if start else space.zeros()
        carry = begin, jnp.zeros(()), [jnp.zeros_like(x) for x in trained]
        (_, total, gradients), weights = jax.lax.scan(step, carry, jnp.asarray(ascent.weights, jnp.float32))
        return (total, weights[0]), gradients

    own = with_own_gradients(compute)
    return lambda params, batch, key, hyper: (loss_fn if key is None else own)(params, batch, key, hyper)


def _ascent(config: AdversarialConfig) -> tuple[Ascent, float]:
    """(the ascent, the size of its random start)."""
    if config.method == "fgm":
        return Ascent((1.0, config.value("weight")), config.value("epsilon")), 0.0
    steps, size = config.value("steps"), config.value("step_size")
    if config.method == "pgd":
        return Ascent((1.0, *[0.0] * (steps - 1), config.value("weight")), size), 0.0
    return Ascent((1 / steps,) * steps, size), config.value("start")


def with_virtual_adversary(loss_fn: LossFn, task: Task, config: AdversarialConfig, width: int) -> LossFn:
    """The loss plus the distance between predictions for texts and for texts that are changed to raise it.

    smart: KL in both directions, with gradients through both predictions, at a perturbation that starts as normal noise and
    takes steps of a size; vat: KL from the prediction for the text, which is constant, at epsilon times the direction that a
    random one becomes in a few power iterations.

    Args:
      loss_fn, config, width: as in `with_adversary`.
      task: says how predictions are compared (`soft_pairs`).
    """
    value = config.value
    symmetric = config.method == "smart"

    def distance(outputs: Outputs, changed: Outputs, batch: Batch) -> Array:
        """KL(text || changed text), and for SMART that of the other direction, summed over a micro-batch."""
        pairs = task.soft_pairs(changed, outputs, batch)
        pairs += task.soft_pairs(outputs, changed, batch) if symmetric else []
        return sum((pair.share * kl_divergence(pair, 1.0)[0] for pair in pairs), jnp.zeros(()))

    def loss(params: Parameters, batch: Batch, key: Array | None, hyper: Mapping[str, Any]) -> tuple[WeightedSum, Outputs]:
        (total, weight), outputs = loss_fn(params, batch, key, hyper)
        if key is None:
            return (total, weight), outputs
        space, fixed = _space(batch, config, width), jax.lax.stop_gradient((params, outputs))

        def changed(params: Parameters, perturbation: Array) -> Outputs:
            return loss_fn(params, batch | {PERTURBATION: perturbation}, key, hyper)[1]

        @jax.grad
        def outward(perturbation: Array) -> Array:
            return distance(fixed[1], changed(fixed[0], perturbation), batch)

        def step(_: int, x: Array) -> Array:
            direction = space.direction(outward(x))
            return space.projected(x + value("step_size") * direction) if symmetric else value("start") * direction

        noise = space.normal()
        begin = space.projected(value("start") * noise) if symmetric else value("start") * space.direction(noise)
        found = jax.lax.fori_loop(0, value("steps"), step, begin)
        found = jax.lax.stop_gradient(found if symmetric else value("epsilon") * space.direction(found))
        target = outputs if symmetric else fixed[1]
        return (total + value("weight") * distance(target, changed(params, found), batch), weight), outputs

    return loss


def _space(batch: Batch, config: AdversarialConfig, width: int) -> Perturbation:
    return Perturbation(batch, width, config.value("norm") or "l2", config.value("epsilon"))
