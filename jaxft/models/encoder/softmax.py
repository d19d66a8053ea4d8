"""Softmax over the last axis. XLA:CPU reduces that axis one number after another, and any other axis many at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array
AT_ONCE = (32, 16, 8)  # numbers, of which the first that divides the length is taken


def softmax(x: Array) -> Array:
    """As `jax.nn.softmax`, for numbers that are finite: [..., S]."""
    return jax.lax.platform_dependent(x, cpu=_on_cpu, default=jax.nn.softmax)


def exponentials(x: Array) -> Array:
    """Softmax without its division, on a CPU: exp(x - the largest of the row), [..., S]."""
    return jnp.exp(x - _reduced(jnp.max, x))


def _on_cpu(x: Array) -> Array:
    e = exponentials(x)
    return e / _reduced(jnp.sum, e)


def _reduced(reduce: Callable[..., Array], x: Array) -> Array:
    """The maximum or the sum of each row, [..., 1]."""
    size = x.shape[-1]
    width = next((w for w in AT_ONCE if size % w == 0 and size > w), None)
    if width is None:
        return reduce(x, axis=-1, keepdims=True)
    partial = reduce(x.reshape(*x.shape[:-1], size // width, width), axis=-2)
    # Without the barrier XLA would make one reduction of both.
    return reduce(jax.lax.optimization_barrier(partial), axis=-1, keepdims=True)
