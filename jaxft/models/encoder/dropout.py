"""Dropout and its random masks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
ROWS = "data"  # the axis of the mesh over which the rows of a batch are split
_GROUP = 8  # 16-bit numbers per call of the generator
_ROUNDS = 10
_MULTIPLIERS = (np.uint32(0xD2511F53), np.uint32(0xCD9E8D57))
_KEY_STEPS = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))
# Part of the counter, so that masks share no numbers with other uses of a key, such as `fold_in`.
_USE = np.uint32(0x6D61736B)


def dropout(x: Array, rate: Any, key: Array | None, *, shared: bool = False) -> Array:
    """Zeroes a share `rate` of `x` and scales the rest, so that the expectation is unchanged (Srivastava et al. 2014).

    Args:
      x: any shape.
      rate: 0 to 1; may be traced. It is rounded to 1/65536, and the scale is that of the rounded rate.
      key: a JAX key; None means deterministic.
      shared: as in `keep_mask`.
    """
    key = key_for(rate, key)
    if key is None:
        return x
    keep, scale = keep_mask(x.shape, rate, key, shared=shared)
    return jnp.where(keep, x * scale.astype(x.dtype), jnp.zeros((), x.dtype))


def key_for(rate: Any, key: Array | None) -> Array | None:
    """The key, or None if the rate is known to be zero, so that no mask is needed."""
    return None if isinstance(rate, float | int) and rate == 0 else key


def fold(key: Array | None, *numbers: Any) -> Array | None:
    """`fold_in` that passes None (deterministic) through."""
    if key is None:
        return None
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def keep_mask(shape: tuple[int, ...], rate: Any, key: Array, *, shared: bool = False) -> tuple[Array, Array]:
    """(mask of the elements that dropout keeps, bool of this shape; the float32 scale of these elements) (see `dropout`).

    16 random bits decide for an element: half the cost of 32, and the rate is still exact to 1.5e-5. The numbers of one call
    of the generator are for eight elements along the second-last axis, because the last axis lies across a vector unit, and
    the first may be sharded. `jax.random.bits` returns one of the eight numbers and drops the others.

    Args:
      shape: of the mask; the first axis are the rows of a batch, or its tokens, row by row.
      rate, key: as in `dropout`.
      shared: whether all rows share the mask, so that the first axis is another one.
    """
    threshold = jnp.round(jnp.asarray(rate, jnp.float32) * 65536).astype(jnp.uint32)
    scale = 65536 / jnp.maximum(65536 - threshold.astype(jnp.float32), 1)
    sizes = shape or (1,)
    axis, devices = max(len(sizes) - 2, 0), 1 if shared else _devices()
    count = -(-sizes[axis] // _GROUP)
    if devices > 1 and axis == 0:  # the elements of one call are on several devices, so each makes the call for itself
        count = -(-sizes[0] * devices // _GROUP)
        element = _numbers(sizes, devices)
        keep = (_packed(key, threshold, element % count) >> element // count) & 1
        return keep.astype(bool).reshape(shape), scale
    groups = (*sizes[:axis], count, *sizes[axis + 1 :])
    packed = _packed(key, threshold, _numbers(groups, devices))
    # A square root counts as expensive, so XLA computes it once for all elements that share it and for all uses of the mask.
    # Without it, XLA would repeat the whole generator for every element in every use (a layer norm has four).
    root = jnp.expand_dims(jnp.sqrt(packed.astype(jnp.float32)), axis)
    roots = jnp.broadcast_to(root, (*groups[:axis], _GROUP, *groups[axis:]))
    bit = jax.lax.broadcasted_iota(jnp.uint32, roots.shape, axis)
    keep = (jnp.round(roots * roots).astype(jnp.uint32) >> bit) & 1
    keep = keep.reshape(*groups[:axis], -1, *groups[axis + 1 :])
    keep = jax.lax.slice_in_dim(keep, 0, sizes[axis], axis=axis).reshape(shape)
    return keep.astype(bool), scale


def _packed(key: Array, threshold: Array, first: Array) -> Array:
    """Eight decisions for each call of the generator, one per bit: uint32, in the shape of `first` (see `_counter`)."""
    packed = jnp.zeros(first.shape, jnp.uint32)
    for i, word in enumerate(philox(key, _counter(first))):
        for j, number in enumerate((word & 0xFFFF, word >> 16)):
            packed |= (number >= threshold).astype(jnp.uint32) << (2 * i + j)
    return packed


def philox(key: Array, counter: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
    """Philox4x32-10 (Salmon et al. 2011, doi:10.1145/2063384.2063405): four random words for each counter.

    Args:
      key: a JAX key of any kind, of which the first two words are used.
      counter: four uint32 arrays of one shape, which is also that of the words.
    """
    data = jax.random.key_data(key)
    words, keys = counter, (data[0], data[1])
    for _ in range(_ROUNDS):
        (high0, low0), (high1, low1) = (_product(m, words[i]) for m, i in zip(_MULTIPLIERS, (0, 2), strict=True))
        words = (high1 ^ words[1] ^ keys[0], low1, high0 ^ words[3] ^ keys[1], low0)
        keys = (keys[0] + _KEY_STEPS[0], keys[1] + _KEY_STEPS[1])
    return words


def _product(multiplier: np.uint32, x: Array) -> tuple[Array, Array]:
    """The high and the low word of the product."""
    wide = jnp.full_like(x, multiplier)
    return jax.lax.mulhi(wide, x), wide * x


def _counter(first: Array) -> tuple[Array, Array, Array, Array]:
    """A counter for each element of an array: its index in the flattened other axes, and `first`, that in the first axis."""
    shape = first.shape
    index = jnp.zeros(shape, jnp.uint32)
    for axis in range(1, len(shape)):
        step = np.uint32(np.prod(shape[axis + 1 :], dtype=np.int64))
        index += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * step
    return index, first, jnp.zeros(shape, jnp.uint32), jnp.full(shape, _USE)


def _numbers(shape: tuple[int, ...], devices: int) -> Array:
    """The index in the first axis of each element, uint32, counted over the rows of all devices."""
    own = jax.lax.broadcasted_iota(jnp.uint32, shape, 0)
    return own if devices == 1 else own + jax.lax.axis_index(ROWS).astype(jnp.uint32) * np.uint32(shape[0])


def _devices() -> int:
    """Over how many devices the rows are split, if a function is traced for each device alone (`step.device_sums`)."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[ROWS] if ROWS in mesh.manual_axes else 1
