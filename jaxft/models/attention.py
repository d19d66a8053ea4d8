"""Scaled dot-product attention behind one dispatcher. Shape suffixes: B rows, T queries, S keys, N heads, H head size."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.models.layers import dropout, keep_mask, key_for

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
    q, k, v = (x.swapaxes(1, 2) for x in (q_BxTxNxH, k_BxSxNxH, v_BxSxNxH))
    q = q * jnp.asarray(scale, q.dtype)
    seen = visible(segment_ids, window)[:, None]
    bias = None if bias is None else bias.astype(jnp.float32)
    key = key_for(rate, key)
    if not return_probabilities:
        return _attention(q, k, v, bias, seen, rate, key).swapaxes(1, 2), None
    probabilities = jax.nn.softmax(_scores(q, k, bias, seen), axis=-1).astype(v.dtype)
    context_BxNxTxH = jnp.einsum(_CONTEXT, dropout(probabilities, rate, key), v, preferred_element_type=jnp.float32)
    return context_BxNxTxH.astype(v.dtype).swapaxes(1, 2), probabilities


_SCORES, _CONTEXT = "bnth,bnsh->bnts", "bnts,bnsh->bnth"


def _scores(q: Array, k: Array, bias: Array | None, seen: Array) -> Array:
    """Float32 [B, N, T, S]."""
    scores = jnp.einsum(_SCORES, q, k, preferred_element_type=jnp.float32)
    scores = scores if bias is None else scores + bias
    # A large finite number, not -inf: a row without any real key gives a uniform distribution instead of NaN.
    return jnp.where(seen, scores, jnp.finfo(jnp.float32).min)


@jax.custom_vjp
def _attention(
    q_BxNxTxH: Array, k_BxNxSxH: Array, v_BxNxSxH: Array, bias: Array | None, seen: Array, rate: Any, key: Array | None
) -> Array:
    """Context [B, N, T, H] of scaled queries, by a backward pass of its own.

    One array of [B, N, T, S] is kept for the backward pass, in the type of v: the probabilities, negative where dropout
    dropped them. Differentiation would keep float32 exponentials, probabilities and what is left of them, and multiply
    float32 gradients with values of another type.
    """
    return _attention_forward(q_BxNxTxH, k_BxNxSxH, v_BxNxSxH, bias, seen, rate, key)[0]


def _attention_forward(
    q: Array, k: Array, v: Array, bias: Array | None, seen: Array, rate: Any, key: Array | None
) -> tuple[Array, Any]:
    signed = jax.nn.softmax(_scores(q, k, bias, seen), axis=-1)
    scale = jnp.ones((), jnp.float32)
    if key is not None:
        keep, scale = keep_mask(signed.shape, rate, key)
        signed = jnp.where(keep, signed, -signed)
    signed = signed.astype(v.dtype)
    context = jnp.einsum(_CONTEXT, jnp.maximum(signed, 0), v, preferred_element_type=jnp.float32) * scale
    return context.astype(v.dtype), (q, k, v, bias, seen, signed, scale)


def _attention_backward(saved: Any, g: Array) -> tuple[Any, ...]:
    q, k, v, bias, seen, signed, scale = saved
    g = (g.astype(jnp.float32) * scale).astype(v.dtype)
    dv = jnp.einsum("bnts,bnth->bnsh", jnp.maximum(signed, 0), g, preferred_element_type=jnp.float32)
    of_kept = jnp.einsum("bnth,bnsh->bnts", g, v, preferred_element_type=jnp.float32)
    of_kept = jnp.where(signed > 0, of_kept, 0.0)
    p = jnp.abs(signed).astype(jnp.float32)
    ds = jnp.where(seen, p * (of_kept - (p * of_kept).sum(-1, keepdims=True)), 0.0)
    narrow = ds.astype(q.dtype)
    dq = jnp.einsum("bnts,bnsh->bnth", narrow, k, preferred_element_type=jnp.float32)
    dk = jnp.einsum("bnts,bnth->bnsh", narrow, q, preferred_element_type=jnp.float32)
    dbias = None
    if bias is not None:
        axes = tuple(i for i, size in enumerate(bias.shape) if size != ds.shape[i])
        dbias = ds.sum(axes, keepdims=True) if axes else ds
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), dbias, None, None, None


_attention.defvjp(_attention_forward, _attention_backward)


def visible(segment_ids: Array, window: Any = None) -> Array:
    """Boolean [B, T, S]: whether the query at t may see the key at s."""
    query, key = segment_ids[:, :, None], segment_ids[:, None, :]
    seen = (key > 0) & ((query == key) | (query == 0))
    if window is None:
        return seen
    place = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)
    return seen & (jnp.abs(place[:, None] - place[None, :]) <= window)[None]
