"""Losses that compare a student's outputs with a teacher's, by their names in `distill.loss`.

Outputs are an `OutputPair`; every loss is (sum, weight) with the weights of the pair, so that it mixes with the loss of the
labels. Gradients flow into both outputs: a caller stops those of a teacher.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp

from jaxft.losses.labelled import LOWEST, WeightedSum, sigmoid_cross_entropy, squared_error

Array = jax.Array
Activation = Literal["softmax", "sigmoid", "identity"]


@dataclass(frozen=True)
class OutputPair:
    """Outputs of a student and of a teacher for the same examples or tokens.

    Attributes:
      activation: what makes predictions of them: softmax over the last axis, a sigmoid of each, or nothing (numbers).
      student, teacher: float32 [..., C]; LOWEST where an entry does not belong to the example.
      weights: float32 [...], 0 for empty slots.
      labels: int32 [...], the right entries of a softmax; -1 where none is known.
      share: what the loss of this pair is multiplied with, if a task has several.
      between: whether the leading axes are examples, which may be compared with one another; else they are tokens.
    """

    activation: Activation
    student: Array
    teacher: Array
    weights: Array
    labels: Array | None = None
    share: float = 1.0
    between: bool = True

    @property
    def own(self) -> Array:
        """Which entries belong to the example: bool [..., C]."""
        return self.teacher > LOWEST / 2


def soft_cross_entropy(pair: OutputPair, temperature: Array | float) -> WeightedSum:
    """Cross-entropy with the teacher's probabilities, both at a temperature (Hinton et al. 2015, arXiv:1503.02531).

    For sigmoids it is averaged over the C labels; for numbers, which have no temperature, it is the squared error.

    Args:
      pair: logits or numbers of both.
      temperature: a number, or one for each example, [...].
    """
    if pair.activation == "identity":
        return squared_error(pair.student, pair.teacher, pair.weights)
    student, teacher = _divided(pair, temperature)
    if pair.activation == "sigmoid":
        return sigmoid_cross_entropy(student, jax.nn.sigmoid(teacher), pair.weights)
    loss = -(jax.nn.softmax(teacher, axis=-1) * jax.nn.log_softmax(student, axis=-1)).sum(-1)
    return (loss * pair.weights).sum(), pair.weights.sum()


def kl_divergence(pair: OutputPair, temperature: Array | float) -> WeightedSum:
    """KL(teacher || student): `soft_cross_entropy` less the entropy of the teacher, with the same gradient.

    Args:
      pair, temperature: as in `soft_cross_entropy`.
    """
    total, weight = soft_cross_entropy(pair, temperature)
    return total - soft_cross_entropy(replace(pair, student=pair.teacher), temperature)[0], weight


def squared_logit_error(pair: OutputPair, temperature: Array | float) -> WeightedSum:
    """Squared error of the logits, divided by the temperature, averaged over those of the example (TextBrewer's `mse`)."""
    if pair.activation == "identity":
        return squared_error(pair.student, pair.teacher, pair.weights)
    student, teacher = _divided(pair, temperature)
    own = pair.own
    error = jnp.where(own, jnp.square(jnp.where(own, student - teacher, 0.0)), 0.0)
    mean = error.sum(-1) / jnp.maximum(own.sum(-1), 1)
    return (mean * pair.weights).sum(), pair.weights.sum()


def dist(pair: OutputPair, temperature: Array | float, within: float = 1.0, across: float = 1.0) -> WeightedSum:
    """DIST (Huang et al. 2022, arXiv:2205.10536): correlations of probabilities, within examples and across them.

    `within` times 1 minus the correlation of an example's probabilities with the teacher's, plus `across` times the mean
    over the C labels of 1 minus the correlation of a label's probabilities in all examples. While a model has almost the
    same probabilities for all examples, its gradient magnifies their rounding.
    """
    student, teacher = _probabilities(pair, temperature)
    weights = pair.weights.reshape(-1)
    student, teacher = (x.reshape(-1, x.shape[-1]) for x in (student, teacher))
    used = (weights > 0).astype(student.dtype)
    rows = 1 - _correlation(student, teacher, jnp.ones_like(student))
    columns = 1 - _correlation(student.T, teacher.T, jnp.broadcast_to(used[None], student.T.shape))
    return within * (rows * weights).sum() + across * columns.mean() * weights.sum(), weights.sum()


def relational(pair: OutputPair, temperature: Array | float, distance: float = 25.0, angle: float = 50.0) -> WeightedSum:
    """RKD (Park et al. 2019, arXiv:1904.05068): distances and angles between the outputs of a step's examples.

    Both are compared by the Huber loss with threshold 1, averaged over all pairs (or triples) of examples; distances are
    divided by their mean. The weights 25 and 50 are those of Tian et al. 2020 (CRD). The temperature divides both outputs.
    """
    student, teacher = (x.reshape(-1, x.shape[-1]) for x in _divided(pair, temperature))
    used = (pair.weights.reshape(-1) > 0).astype(student.dtype)
    pairs = used[:, None] * used[None]
    number = jnp.maximum(used.sum(), 1.0)
    apart = _huber(_distances(student, pairs) - _distances(teacher, pairs)) * pairs
    turned = _huber(_angles(student) - _angles(teacher)) * pairs[:, :, None] * used[None, None]
    total = pair.weights.sum()
    return (distance * apart.sum() / number**2 + angle * turned.sum() / number**3) * total, total


Loss = Callable[[OutputPair, Array | float], WeightedSum]
LOSSES: Mapping[str, Loss] = {
    "cross_entropy": soft_cross_entropy,
    "kl": kl_divergence,
    "mse": squared_logit_error,
    "dist": dist,
    "rkd": relational,
}
BETWEEN = frozenset({"dist", "rkd"})  # losses between the examples of a step


def shifted(pair: OutputPair) -> OutputPair:
    """The pair, with the teacher's logit of the right label exchanged with its highest (TextBrewer's probability shift)."""
    assert pair.labels is not None
    labels, teacher = pair.labels, pair.teacher
    right = jnp.maximum(labels, 0)
    best = jnp.argmax(teacher, axis=-1)
    high, own = (jnp.take_along_axis(teacher, x[..., None], axis=-1) for x in (best, right))
    at = jax.lax.broadcasted_iota(jnp.int32, teacher.shape, teacher.ndim - 1)
    moved = jnp.where(at == right[..., None], high, jnp.where(at == best[..., None], own, teacher))
    return replace(pair, teacher=jnp.where((labels >= 0)[..., None], moved, teacher))


def flsw_temperature(pair: OutputPair, temperature: float, beta: float, gamma: float) -> Array:
    """A temperature for each example, higher for those on which the student agrees with the teacher: [...].

    The mean over all examples of w, less w, times `beta` is added, where w = (1 - cosine of the two outputs) ** `gamma`
    (Li et al. 2019, arXiv:1911.07471, as TextBrewer's `flsw`); the result is at least a tenth of `temperature`.
    """
    student, teacher = (jax.lax.stop_gradient(jnp.where(pair.own, x, 0.0)) for x in (pair.student, pair.teacher))
    student, teacher = (x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-4) for x in (student, teacher))
    w = jnp.maximum(1 - (student * teacher).sum(-1), 0.0) ** gamma
    return _of_examples(temperature, beta, w, pair.weights)


def cwsm_temperature(pair: OutputPair, temperature: float, beta: float) -> Array:
    """A temperature for each example, higher for those of which the student is sure: [...].

    The mean over all examples of w, less w, times `beta` is added, where w = 1 / (the highest probability + 0.001)
    (TextBrewer's `cwsm`); the result is at least a tenth of `temperature`.
    """
    w = 1 / (jax.lax.stop_gradient(jax.nn.softmax(pair.student, axis=-1)).max(-1) + 1e-3)
    return _of_examples(temperature, beta, w, pair.weights)


def _of_examples(temperature: float, beta: float, w: Array, weights: Array) -> Array:
    """TextBrewer's sum with a bound: w is large with many labels, and a temperature below 0 turns probabilities round."""
    return jnp.maximum(temperature + beta * (_mean(w, weights) - w), temperature / 10)


def _divided(pair: OutputPair, temperature: Array | float) -> tuple[Array, Array]:
    divisor = temperature[..., None] if isinstance(temperature, jax.Array) and temperature.ndim else temperature
    return pair.student / divisor, pair.teacher / divisor


def _probabilities(pair: OutputPair, temperature: Array | float) -> tuple[Array, Array]:
    student, teacher = _divided(pair, temperature)
    if pair.activation == "softmax":
        return jax.nn.softmax(student, axis=-1), jax.nn.softmax(teacher, axis=-1)
    return (jax.nn.sigmoid(student), jax.nn.sigmoid(teacher)) if pair.activation == "sigmoid" else (student, teacher)


def _mean(x: Array, weights: Array) -> Array:
    """The mean of [...] over what has a weight."""
    used = (weights > 0).astype(x.dtype)
    return (x * used).sum() / jnp.maximum(used.sum(), 1.0)


def _correlation(x: Array, y: Array, used: Array) -> Array:
    """Pearson's correlation of each row of x and y, [A, B], over the entries that are used; 0 if a row is constant."""
    count = jnp.maximum(used.sum(-1, keepdims=True), 1.0)
    x, y = ((z - (z * used).sum(-1, keepdims=True) / count) * used for z in (x, y))
    return (x * y).sum(-1) / (_root(jnp.square(x).sum(-1)) * _root(jnp.square(y).sum(-1)) + 1e-8)


def _root(x: Array) -> Array:
    """The square root, whose gradient at 0 is 0 as in torch.norm."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _huber(x: Array) -> Array:
    size = jnp.abs(x)
    return jnp.where(size < 1, 0.5 * jnp.square(x), size - 0.5)


def _distances(x: Array, pairs: Array) -> Array:
    """The distances between the rows of [N, C], divided by the mean of those that are not 0; [N, N]."""
    found = _root(jnp.square(x[:, None] - x[None]).sum(-1)) * pairs
    positive = (found > 0).astype(x.dtype)
    return found / jnp.maximum(found.sum() / jnp.maximum(positive.sum(), 1.0), 1e-12)


def _angles(x: Array) -> Array:
    """The cosine of the angle at the first of three rows of [N, C] for all triples, [N, N, N]."""
    between = x[None] - x[:, None]
    size = _root(jnp.square(between).sum(-1, keepdims=True))
    unit = between / jnp.maximum(size, 1e-12)
    return jnp.einsum("ijc,ikc->ijk", unit, unit)
