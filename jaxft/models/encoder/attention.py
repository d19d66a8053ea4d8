"""Scaled dot-product attention behind one dispatcher. Shape suffixes: B rows, T queries, S keys, N heads, H head size."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.models.encoder import fused_attention
from jaxft.models.encoder.config import PLAIN, Policy
from jaxft.models.encoder.dropout import dropout, keep_mask, key_for
from jaxft.models.encoder.matmul import batched

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
    by_keys: bool = False,
    return_probabilities: bool = False,
    policy: Policy = PLAIN,
    single: bool = False,
) -> tuple[Array, Array | None]:
    """Attention within segments.

    Args:
      q_BxTxNxH, k_BxSxNxH, v_BxSxNxH: queries, keys and values, T = S.
      segment_ids: int32 [B, T]: 0 for padding, and 1, 2, ... for the examples of a packed row. A token sees the tokens of
        its own segment. Padding is never seen; what it sees itself, and so its output, is up to the implementation (the
        plain one lets it see every real token of its row, as a Hugging Face attention mask does).
      scale: of the scores; None is 1 / sqrt(H).
      bias: added to the scaled scores, [B or 1, N, T, S].
      window: a token sees no token that is further away than this; may be traced. None is no limit.
      rate: dropout rate of the probabilities.
      key: JAX key, None for deterministic.
      by_keys: dropout drops a key for all queries of its row and head at once (the columns of Zehui et al. 2019,
        arXiv:1907.11065), where BERT's drops every probability by itself: the expectation is the same, the noise is not.
      return_probabilities: also return the probabilities before dropout, [B, N, T, S].
      policy: which implementation is wanted, and for which device.
      single: whether every row is known to hold one segment at most, from its first token on.

    Returns:
      ([B, T, N, H] in the type of v, probabilities or None).

    Raises:
      UserError: when an implementation is forced that cannot do this.
    """
    factor = q_BxTxNxH.shape[-1] ** -0.5 if scale is None else scale
    key = key_for(rate, key)
    if by_keys and key is not None:
        keep, up = keep_mask((*v_BxSxNxH.shape[:3], 1), rate, key)
        v_BxSxNxH, key = jnp.where(keep, v_BxSxNxH * up.astype(v_BxSxNxH.dtype), 0), None
    call = fused_attention.Call(
        dtype=v_BxSxNxH.dtype.name,
        length=q_BxTxNxH.shape[1],
        head_size=q_BxTxNxH.shape[-1],
        plain=key is not None or bias is not None or return_probabilities,
        window=window is not None,
        single=single,
    )
    if fused := fused_attention.choose(policy, call):
        return fused(q_BxTxNxH, k_BxSxNxH, v_BxSxNxH, segment_ids, factor, window, single, policy.mesh), None
    q, k, v = (x.swapaxes(1, 2) for x in (q_BxTxNxH, k_BxSxNxH, v_BxSxNxH))
    q = q * jnp.asarray(factor, q.dtype)
    seen = fused_attention.visible(segment_ids, window)[:, None]
    if policy.platform == "cpu":  # otherwise computed anew for every head and every use, which takes as long as a product
        seen = jax.lax.optimization_barrier(seen)
    bias = None if bias is None else bias.astype(jnp.float32)
    if not return_probabilities:
        return _attention(q, k, v, bias, seen, rate, key), None
    probabilities = jax.nn.softmax(_scores(q, k, bias, seen), axis=-1).astype(v.dtype)
    context_BxNxTxH = batched(dropout(probabilities, rate, key), v, (3, 2))
    return context_BxNxTxH.astype(v.dtype).swapaxes(1, 2), probabilities


def _scores(q: Array, k: Array, bias: Array | None, seen: Array) -> Array:
    """Float32 [B, N, T, S], from products rounded to the type of q, as PyTorch's autocast has them.

    Softmax reads them more than once, so they go through memory: in bfloat16 half of the way.
    """
    scores = batched(q, k, (3, 3), q.dtype).astype(jnp.float32)
    scores = scores if bias is None else scores + bias
    # A large finite number, not -inf: a row without any real key gives a uniform distribution instead of NaN.
    return jnp.minimum(scores, jnp.where(seen, jnp.inf, jnp.finfo(jnp.float32).min))


@jax.custom_vjp
def _attention(
    q_BxNxTxH: Array, k_BxNxSxH: Array, v_BxNxSxH: Array, bias: Array | None, seen: Array, rate: Any, key: Array | None
) -> Array:
    """Context [B, T, N, H] of scaled queries, by a backward pass of its own.

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
    context = batched(_kept(signed, key), v, (3, 2)) * scale
    context = context.astype(v.dtype).swapaxes(1, 2)  # as the next layer keeps it for its own backward pass
    return context, (q, k, v, bias, seen, signed, scale, key, context)


def _attention_backward(saved: Any, g: Array) -> tuple[Any, ...]:
    q, k, v, bias, seen, signed, scale, key, context = saved
    wide = g.astype(jnp.float32)
    # What softmax subtracts of every row, the sum of probabilities times their gradients, is that of context times its own
    # (Dao et al. 2022, arXiv:2205.14135, appendix B.2): no pass over [B, N, T, S].
    shared = (wide * context.astype(jnp.float32)).sum(-1).swapaxes(1, 2)[..., None]
    g = (wide * scale).astype(v.dtype).swapaxes(1, 2)
    dv = batched(_kept(signed, key), g, (2, 2))
    of_kept = batched(g, v, (3, 3), v.dtype)
    of_kept = (of_kept if key is None else jnp.where(signed > 0, of_kept, 0)).astype(jnp.float32)
    probabilities = signed if key is None else jnp.abs(signed)
    ds = jnp.where(seen, probabilities.astype(jnp.float32) * (of_kept - shared), 0.0)
    narrow = ds.astype(q.dtype)
    dq = batched(narrow, k, (3, 2))
    dk = batched(narrow, q, (2, 2))
    dbias = None
    if bias is not None:
        axes = tuple(i for i, size in enumerate(bias.shape) if size != ds.shape[i])
        dbias = ds.sum(axes, keepdims=True) if axes else ds
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), dbias, None, None, None


def _kept(signed: Array, key: Array | None) -> Array:
    """Probabilities that dropout has kept; without dropout, one array instead of two in memory."""
    return signed if key is None else jnp.maximum(signed, 0)


_attention.defvjp(_attention_forward, _attention_backward)
