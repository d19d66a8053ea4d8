"""Positions: how RoBERTa counts them, and those inside attention: MPNet's buckets, DeBERTa's relative embeddings,
ModernBERT's rotary positions.

The latter depend only on differences of positions, so an example has the same scores anywhere in a packed row.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
BUCKETS = 32  # Hugging Face's MPNet uses these constants whatever its config says
MAX_DISTANCE = 128
_FARTHEST = 2**16  # distance in the tables of exported programs


def skip_padding(position_ids: Array, ids: Array, pad: int) -> Array:
    """Positions in families that count from their padding id: a padding id within a text has no position.

    This is Hugging Face's `create_position_ids_from_input_ids` without the offset, for rows with several examples.

    Args:
      position_ids, ids: int32 [B, T]; positions are counted from 0 in each example.
      pad: the padding id.

    Returns:
      int32 [B, T]: the number of earlier tokens of the example, without padding ids; -1 for a padding id.
    """
    padding = ids == pad
    so_far = jnp.cumsum(padding, axis=1, dtype=jnp.int32)
    before = so_far - padding.astype(jnp.int32)
    start = jnp.arange(ids.shape[1], dtype=jnp.int32)[None] - position_ids
    skipped = before - jnp.take_along_axis(before, start, axis=1)
    return jnp.where(padding, -1, position_ids - skipped)


def distance_buckets(length: Any) -> Array:
    """The bucket of every (query, key) in MPNet (Song et al. 2020), int32 [length, length], as in T5: one bucket for each
    short distance, logarithmic buckets for long ones; keys to the right are in the upper half."""
    return _of_distances(_bucket, length)


def relative_index(length: Any, buckets: int, longest: int) -> Array:
    """The row of DeBERTa's relative embeddings (He et al. 2021, arXiv:2006.03654) by query and key: int32 [length, length].

    Args:
      length: number of tokens; may be a symbolic dimension of jax.export.
      buckets: `position_buckets`; 0 or less gives every distance up to `longest` its own row.
      longest: `max_relative_positions`.
    """
    return _of_distances(partial(_relative_row, buckets=buckets, longest=longest), length)


def _of_distances(function: Callable[[np.ndarray], np.ndarray], length: Any) -> Array:
    """A function of the distance query - key, for every query and key: [length, length].

    For a symbolic length it becomes a table of all distances, without the ends at which it is constant, so that an exported
    program has the same values, bit for bit.
    """
    if isinstance(length, int):
        position = np.arange(length)
        return jnp.asarray(function(position[:, None] - position[None, :]))
    table = function(np.arange(-_FARTHEST, _FARTHEST + 1))
    below = int(np.argmax(table != table[0])) or 1
    above = int(np.argmax(table[::-1] != table[-1])) or 1
    table = table[below - 1 : len(table) - above + 1]
    distance = jnp.arange(length, dtype=jnp.int32)[:, None] - jnp.arange(length, dtype=jnp.int32)[None]
    return jnp.take(jnp.asarray(table), distance + (_FARTHEST - below + 1), mode="clip")


def _bucket(distance: np.ndarray) -> np.ndarray:
    """MPNet's bucket of the distances query - key, int32."""
    ahead, half, exact = -distance, BUCKETS // 2, BUCKETS // 4
    distance = np.abs(ahead)
    with np.errstate(divide="ignore"):
        steps = np.log(distance.astype(np.float32) / exact) / np.float32(math.log(MAX_DISTANCE / exact))
        far = exact + np.nan_to_num(steps * np.float32(half - exact), neginf=0).astype(np.int64)
    bucket = np.where(distance < exact, distance, np.minimum(far, half - 1))
    return (bucket + half * (ahead > 0)).astype(np.int32)


def _relative_row(distance: np.ndarray, buckets: int, longest: int) -> np.ndarray:
    """DeBERTa's row of the distances query - key, int32 (see `relative_index`)."""
    span = buckets if buckets > 0 else longest
    if buckets > 0:
        middle = buckets // 2
        far = np.where(np.abs(distance) < middle, middle - 1, np.abs(distance)).astype(np.float32)
        ratio = np.log(far / np.float32(middle)) / np.log(np.float32((longest - 1) / middle))
        steps = np.ceil(ratio * np.float32(middle - 1)) + middle
        distance = np.where(far <= middle, distance, steps * np.sign(distance)).astype(np.int64)
    return np.clip(distance + span, 0, 2 * span - 1).astype(np.int32)


def rotary_tables(position_ids: Array, head_size: int, theta: float, stretch: float = 1.0) -> tuple[Array, Array]:
    """(cos, sin), float32 [B, T, head_size / 2] (Su et al. 2021, arXiv:2104.09864).

    Args:
      position_ids: int32 [B, T], counted from the start of each example.
      theta: base of the wavelengths.
      stretch: divides the frequencies (`linear` rope scaling).
    """
    exponent = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    frequencies = (1.0 / (np.float32(theta) ** exponent) / np.float32(stretch)).astype(np.float32)
    angles = position_ids.astype(jnp.float32)[:, :, None] * jnp.asarray(frequencies)[None, None]
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Array, tables: tuple[Any, Any]) -> Array:
    """Rotates the pairs (i, i + H / 2) of a query or key [B, T, N, H] by the angles of its position."""
    cos, sin = (table.astype(x.dtype).astype(jnp.float32)[:, :, None] for table in tables)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
