"""Scaled dot-product attention behind one dispatcher. Shape suffixes: B rows, T queries, S keys, N heads, H head size."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.models.layers import dropout

Array = jax.Array


def attend(
    q_BxTxNxH: Array,
    k_BxSxNxH: Array,
    v_BxSxNxH: Array,
    segment_ids: Array,
    *,
    scale: float | None = None,
    bias: Array | None = None,
    window: Any = None,
    rate: Any = 0.0,
    key: Array | None = None,
    return_probabilities: bool = False,
) -> tuple[Array, Array | None]:
    """Attention within segments.

    Args:
      q_BxTxNxH, k_BxSxNxH, v_BxSxNxH: queries, keys and values, T = S.
      segment_ids: int32 [B, T]: 0 for padding, and 1, 2, ... for the examples of a packed row. A token sees the tokens of
        its own segment. Padding is never seen; it sees every real token of its row, which is what a Hugging Face
        attention mask does, so that outputs agree at padded positions too.
      scale: of the scores; None is 1 / sqrt(H).
      bias: added to the scaled scores, [B or 1, N, T, S].
      window: a token sees no token that is further away than this; may be traced. None is no limit.
      rate: dropout rate of the probabilities.
      key: JAX key, None for deterministic.
      return_probabilities: also return the probabilities before dropout, [B, N, T, S].

    Returns:
      ([B, T, N, H] in the type of v, probabilities or None).
    """
    scale = q_BxTxNxH.shape[-1] ** -0.5 if scale is None else scale
    q_BxNxTxH, k_BxNxSxH, v_BxNxSxH = (x.swapaxes(1, 2) for x in (q_BxTxNxH, k_BxSxNxH, v_BxSxNxH))
    q_BxNxTxH = q_BxNxTxH * jnp.asarray(scale, q_BxNxTxH.dtype)
    scores_BxNxTxS = jnp.einsum("bnth,bnsh->bnts", q_BxNxTxH, k_BxNxSxH, preferred_element_type=jnp.float32)
    if bias is not None:
        scores_BxNxTxS = scores_BxNxTxS + bias.astype(jnp.float32)
    # A large finite number, not -inf: a row without any real key gives a uniform distribution instead of NaN.
    seen = visible(segment_ids, window)[:, None]
    scores_BxNxTxS = jnp.where(seen, scores_BxNxTxS, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(scores_BxNxTxS, axis=-1).astype(v_BxSxNxH.dtype)
    dropped = dropout(probabilities, rate, key)
    context_BxNxTxH = jnp.einsum("bnts,bnsh->bnth", dropped, v_BxNxSxH, preferred_element_type=jnp.float32)
    context = context_BxNxTxH.astype(v_BxSxNxH.dtype).swapaxes(1, 2)
    return context, probabilities if return_probabilities else None


def visible(segment_ids: Array, window: Any = None) -> Array:
    """Boolean [B, T, S]: whether the query at t may see the key at s."""
    query, key = segment_ids[:, :, None], segment_ids[:, None, :]
    seen = (key > 0) & ((query == key) | (query == 0))
    if window is None:
        return seen
    place = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)
    return seen & (jnp.abs(place[:, None] - place[None, :]) <= window)[None]
