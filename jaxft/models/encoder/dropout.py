"""Dropout, and the random masks behind it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.core import random_keys

random_keys.make_philox_shardable()  # masks are drawn from its products, whatever kind the key is of

Array = jax.Array
_GROUP = 8  # numbers of 16 bits in what the generator gives at once
_ROUNDS = 10
_MULTIPLIERS = (np.uint32(0xD2511F53), np.uint32(0xCD9E8D57))
_KEY_STEPS = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))
_USE = np.uint32(0x6D61736B)  # in the counter: with other uses of a key, such as `fold_in`, no mask shares its numbers


def dropout(x: Array, rate: Any, key: Array | None) -> Array:
    """Zero a share `rate` of `x` and scale the rest, so that the expectation stays (Srivastava et al. 2014).

    Args:
      x: any shape.
      rate: 0 to 1; may be traced. It is rounded to 1/65536, and the scale is that of the rounded rate.
      key: a JAX key; None is the deterministic mode.
    """
    key = key_for(rate, key)
    if key is None:
        return x
    keep, scale = keep_mask(x.shape, rate, key)
    return jnp.where(keep, x * scale.astype(x.dtype), jnp.zeros((), x.dtype))


def key_for(rate: Any, key: Array | None) -> Array | None:
    """The key, or None where the rate is known to be zero and no mask is to be drawn."""
    return None if isinstance(rate, float | int) and rate == 0 else key


def fold(key: Array | None, *numbers: Any) -> Array | None:
    """`fold_in` that passes None (deterministic) through."""
    if key is None:
        return None
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def keep_mask(shape: tuple[int, ...], rate: Any, key: Array) -> tuple[Array, Array]:
    """What dropout keeps, boolean of this shape, and the float32 scale of it (see `dropout`).

    16 random bits decide for an element: half the cost of 32, and the rate is still exact to 1.5e-5. What the generator
    gives at once is for eight elements, that lie apart in the last axis but one: the last lies across a vector unit, and the
    first may be split over devices. `jax.random.bits` gives one of the eight and drops the others.
    """
    threshold = jnp.round(jnp.asarray(rate, jnp.float32) * 65536).astype(jnp.uint32)
    sizes = shape or (1,)
    axis = max(len(sizes) - 2, 0)
    groups = (*sizes[:axis], -(-sizes[axis] // _GROUP), *sizes[axis + 1 :])
    packed = jnp.zeros(groups, jnp.uint32)
    for i, word in enumerate(philox(key, _counter(groups))):
        for j, number in enumerate((word & 0xFFFF, word >> 16)):
            packed |= (number >= threshold).astype(jnp.uint32) << (2 * i + j)
    # A root counts as expensive: XLA computes it once for what it is spread over and for all uses of the mask, where it
    # would repeat the whole generator for every element in every one of them (a layer norm has four).
    root = jnp.expand_dims(jnp.sqrt(packed.astype(jnp.float32)), axis)
    spread = jnp.broadcast_to(root, (*groups[:axis], _GROUP, *groups[axis:]))
    bit = jax.lax.broadcasted_iota(jnp.uint32, spread.shape, axis)
    keep = (jnp.round(spread * spread).astype(jnp.uint32) >> bit) & 1
    keep = keep.reshape(*groups[:axis], -1, *groups[axis + 1 :])
    keep = jax.lax.slice_in_dim(keep, 0, sizes[axis], axis=axis).reshape(shape)
    return keep.astype(bool), 65536 / jnp.maximum(65536 - threshold.astype(jnp.float32), 1)


def philox(key: Array, counter: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
    """Philox4x32-10 (Salmon et al. 2011, doi:10.1145/2063384.2063405): four random words of each counter.

    Args:
      key: of any kind; the first two words of it.
      counter: uint32 of one shape.
    """
    data = jax.random.key_data(key)
    words, keys = counter, (data[0], data[1])
    for _ in range(_ROUNDS):
        (high0, low0), (high1, low1) = (_product(m, words[i]) for m, i in zip(_MULTIPLIERS, (0, 2), strict=True))
        words = (high1 ^ words[1] ^ keys[0], low1, high0 ^ words[3] ^ keys[1], low0)
        keys = (keys[0] + _KEY_STEPS[0], keys[1] + _KEY_STEPS[1])
    return words


def _product(multiplier: np.uint32, x: Array) -> tuple[Array, Array]:
    """High and low word."""
    wide = jnp.full_like(x, multiplier)
    return jax.lax.mulhi(wide, x), wide * x


def _counter(shape: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    """The place in an array of this shape: in the first axis, and in the rest of it."""
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(1, len(shape)):
        step = np.uint32(np.prod(shape[axis + 1 :], dtype=np.int64))
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * step
    first = jax.lax.broadcasted_iota(jnp.uint32, shape, 0)
    return place, first, jnp.zeros(shape, jnp.uint32), jnp.full(shape, _USE)
