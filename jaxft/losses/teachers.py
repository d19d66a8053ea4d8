"""The mean of several teachers' outputs, as the outputs of one teacher."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxft.losses.soft import OutputPair

Array = jax.Array


def mean_teacher(pairs: Sequence[OutputPair], weights: Array, temperature: float, *, of_logits: bool = False) -> OutputPair:
    """The pair of a student with the weighted mean of its teachers.

    For a softmax the mean is of the teachers' probabilities at the temperature T, and the teacher of the result is T log of
    it. So the cross-entropy and the KL divergence at T differ from the weighted means of those against each teacher by a
    constant at most, with the same gradient (You et al. 2017). For sigmoids it is T logit of their mean; of numbers, their
    mean.

    Args:
      pairs: of the same student with each of K teachers.
      weights: float32 [K], or [K, ...] with the axes of `OutputPair.weights`; with the sum 1 over the teachers.
      temperature: T.
      of_logits: take the mean of the logits instead, which does the same for squared errors.
    """
    first = pairs[0]
    teachers = jnp.stack([pair.teacher for pair in pairs])
    weights = weights.reshape(*weights.shape, *[1] * (teachers.ndim - weights.ndim))
    if of_logits or first.activation == "identity":
        mean = (weights * jnp.where(first.own, teachers, 0.0)).sum(0)
    elif first.activation == "softmax":
        mean = temperature * _log_mean(jax.nn.log_softmax(teachers / temperature, axis=-1), weights)
    else:
        scaled = teachers / temperature
        yes, no = (_log_mean(jax.nn.log_sigmoid(x), weights) for x in (scaled, -scaled))
        mean = temperature * (yes - no)
    return replace(first, teacher=jnp.where(first.own, mean, first.teacher))


def _log_mean(logs: Array, weights: Array) -> Array:
    """The logarithm of the weighted mean of exp(logs) over the first axis."""
    return jax.nn.logsumexp(logs, axis=0, b=jnp.broadcast_to(weights, logs.shape))
