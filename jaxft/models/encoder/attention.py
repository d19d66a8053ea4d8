"""Scaled dot-product attention behind one dispatcher. Shape suffixes: B rows, T queries, S keys, N heads, H head size."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.models.encoder import fused_attention, softmax
from jaxft.models.encoder.config import PLAIN, DropoutRates, DropoutSite, Policy
from jaxft.models.encoder.dropout import dropout, keep_mask, key_for
from jaxft.models.encoder.matmul import batched

Array = jax.Array
PROBABILITIES, SCORES = "attentions", "attention_scores"  # what `attend` returns if it is asked for; fused kernels have none
PROJECTIONS = ("queries", "keys", "values")  # what a layer returns if it is asked for


@dataclass(frozen=True)
class LayerOptions:
    """How a layer is applied.

    Attributes:
      shared: the inputs that all layers share: `segment_ids` [B, T], and `distance_bias` [1, N, T, T], `rotary`, or
        `relative` [2 * span, D] with `relative_index` [T, T] into it.
      key: JAX key of the layer; None means deterministic.
      local: whether attention is local, in a model with `rotary`; may be traced.
      outputs: what to return of attention by name: PROBABILITIES, SCORES (see `attend`), or PROJECTIONS, [B, T, N, H] of
        the tokens without their positions.
      policy, single: see `attend`.
    """

    shared: Mapping[str, Any]
    rates: DropoutRates
    key: Array | None = None
    local: Any = False
    outputs: Collection[str] = ()
    policy: Policy = PLAIN
    single: bool = False

    def projections(self, *projected: Array) -> dict[str, Array]:
        """The outputs that are among queries, keys and values."""
        return {name: x for name, x in zip(PROJECTIONS, projected, strict=True) if name in self.outputs}

    def attend(self, q: Array, k: Array, v: Array, key: Array | None, **more: Any) -> tuple[Array, dict[str, Array]]:
        """`attend` on [B, T, N, H] with these options: ([B, T, N * H], outputs)."""
        context, found = attend(
            q,
            k,
            v,
            self.shared["segment_ids"],
            rate=self.rates.of(DropoutSite.ATTENTION),
            key=key,
            by_keys=self.rates.by_keys,
            outputs=self.outputs,
            policy=self.policy,
            single=self.single,
            **more,
        )
        return context.reshape(*context.shape[:2], -1), found


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
    outputs: Collection[str] = (),
    policy: Policy = PLAIN,
    single: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """Attention within segments.

    Args:
      q_BxTxNxH, k_BxSxNxH, v_BxSxNxH: queries, keys and values, T = S.
      segment_ids: int32 [B, T]: 0 for padding, and 1, 2, ... for the examples of a packed row. A token attends to the tokens
        of its own segment. No token attends to padding; what padding attends to, and so its output, depends on the
        implementation (in the plain one it attends to every real token of its row, as with a Hugging Face attention mask).
      scale: factor of the scores; None means 1 / sqrt(H).
      bias: added to the scaled scores, [B or 1, N, T, S].
      window: a token attends to no token further away than this; may be traced. None means no limit.
      rate: dropout rate of the probabilities.
      key: JAX key, None for deterministic.
      by_keys: dropout drops a key for all queries of its row and head (the columns of Zehui et al. 2019, arXiv:1907.11065),
        while BERT's drops single probabilities: the expectation is the same, but not the noise.
      outputs: what else to return, [B, N, T, S]: PROBABILITIES before dropout, in the dtype of v, and SCORES, float32, the
        lowest number where a token does not attend to another.
      policy: the implementation to use, and the device.
      single: whether every row is known to contain at most one segment, from its first token on.

    Returns:
      ([B, T, N, H] in the dtype of v, outputs by name).

    Raises:
      UserError: if policy.attention forces an implementation that does not support these arguments.
    """
    factor = q_BxTxNxH.shape[-1] ** -0.5 if scale is None else scale
    key = key_for(rate, key)
    if by_keys and key is not None:
        keep, keep_scale = keep_mask((*v_BxSxNxH.shape[:3], 1), rate, key)
        v_BxSxNxH, key = jnp.where(keep, v_BxSxNxH * keep_scale.astype(v_BxSxNxH.dtype), 0), None
    exposes = PROBABILITIES in outputs or SCORES in outputs
    call = fused_attention.Call(
        dtype=v_BxSxNxH.dtype.name,
        length=q_BxTxNxH.shape[1],
        head_size=q_BxTxNxH.shape[-1],
        plain=key is not None or bias is not None or exposes,
        window=window is not None,
        single=single,
    )
    if fused := fused_attention.choose(policy, call):
        return fused(q_BxTxNxH, k_BxSxNxH, v_BxSxNxH, segment_ids, factor, window, single, policy.mesh), {}
    q, k, v = (x.swapaxes(1, 2) for x in (q_BxTxNxH, k_BxSxNxH, v_BxSxNxH))
    q = q * jnp.asarray(factor, q.dtype)
    mask = fused_attention.attention_mask(segment_ids, window)[:, None]
    if policy.platform == "cpu":  # otherwise it is recomputed for every head and every use, which takes as long as a product
        mask = jax.lax.optimization_barrier(mask)
    bias = None if bias is None else bias.astype(jnp.float32)
    if not exposes:
        return _attention(q, k, v, bias, mask, rate, key), {}
    scores = _scores(q, k, bias, mask)
    probabilities = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    context_BxNxTxH = batched(dropout(probabilities, rate, key), v, (3, 2))
    found = {PROBABILITIES: probabilities, SCORES: scores}
    return context_BxNxTxH.astype(v.dtype).swapaxes(1, 2), {name: x for name, x in found.items() if name in outputs}


def _scores(q: Array, k: Array, bias: Array | None, mask: Array) -> Array:
    """Scores, float32 [B, N, T, S], from products rounded to the dtype of q, as in PyTorch's autocast.

    Softmax reads the products more than once, so they are written to memory, in bfloat16 with half the bytes.
    """
    scores = batched(q, k, (3, 3), q.dtype).astype(jnp.float32)
    scores = scores if bias is None else scores + bias
    # A large finite number instead of -inf: a row without any real key gives a uniform distribution instead of NaN.
    return jnp.minimum(scores, jnp.where(mask, jnp.inf, jnp.finfo(jnp.float32).min))


@jax.custom_vjp
def _attention(
    q_BxNxTxH: Array, k_BxNxSxH: Array, v_BxNxSxH: Array, bias: Array | None, mask: Array, rate: Any, key: Array | None
) -> Array:
    """Context [B, T, N, H] of scaled queries, with a custom backward pass. This is what runs if there is none.

    Only one array of [B, N, T, S] is saved for the backward pass, in the dtype of v: the probabilities, negated where
    dropout has dropped them. Automatic differentiation would save float32 exponentials and probabilities before and after
    dropout, and multiply float32 gradients by values of another dtype.
    """

    def plain(q: Array, k: Array, v: Array, bias: Array | None, mask: Array) -> Array:
        return _attention_forward(q, k, v, bias, mask, rate, key)[0]

    operands = (q_BxNxTxH, k_BxNxSxH, v_BxNxSxH, bias, mask)
    return jax.lax.platform_dependent(*operands, cpu=_divided_last if key is None else plain, default=plain)


def _divided_last(q: Array, k: Array, v: Array, bias: Array | None, mask: Array) -> Array:
    """Context of scaled queries: [B, N, T, S] is neither summed nor divided, but the context, where a column of ones gives
    the sum of each row."""
    exponentials = softmax.exponentials(_scores(q, k, bias, mask)).astype(v.dtype)
    ones = jnp.ones((*v.shape[:3], 1), v.dtype)
    context = batched(exponentials, jnp.concatenate([v, ones], -1), (3, 2))
    return (context[..., :-1] / context[..., -1:]).astype(v.dtype).swapaxes(1, 2)


def _attention_forward(
    q: Array, k: Array, v: Array, bias: Array | None, mask: Array, rate: Any, key: Array | None
) -> tuple[Array, Any]:
    signed = softmax.softmax(_scores(q, k, bias, mask))
    scale = jnp.ones((), jnp.float32)
    if key is not None:
        keep, scale = keep_mask(signed.shape, rate, key)
        signed = jnp.where(keep, signed, -signed)
    signed = signed.astype(v.dtype)
    context = batched(_after_dropout(signed, key), v, (3, 2)) * scale
    context = context.astype(v.dtype).swapaxes(1, 2)  # the layout in which the next layer saves it for its backward pass
    return context, (q, k, v, bias, mask, signed, scale, key, context)


def _attention_backward(saved: Any, g: Array) -> tuple[Any, ...]:
    q, k, v, bias, mask, signed, scale, key, context = saved
    g32 = g.astype(jnp.float32)
    # The gradient of softmax subtracts from every row the sum of probabilities times their gradients. That equals the sum of
    # the context times its gradient (Dao et al. 2022, arXiv:2205.14135, appendix B.2), without a pass over [B, N, T, S].
    row_sum = (g32 * context.astype(jnp.float32)).sum(-1).swapaxes(1, 2)[..., None]
    g = (g32 * scale).astype(v.dtype).swapaxes(1, 2)
    dv = batched(_after_dropout(signed, key), g, (2, 2))
    dp = batched(g, v, (3, 3), v.dtype)
    dp = (dp if key is None else jnp.where(signed > 0, dp, 0)).astype(jnp.float32)
    probabilities = signed if key is None else jnp.abs(signed)
    ds = jnp.where(mask, probabilities.astype(jnp.float32) * (dp - row_sum), 0.0)
    ds_rounded = ds.astype(q.dtype)
    dq = batched(ds_rounded, k, (3, 2))
    dk = batched(ds_rounded, q, (2, 2))
    dbias = None
    if bias is not None:
        axes = tuple(i for i, size in enumerate(bias.shape) if size != ds.shape[i])
        dbias = ds.sum(axes, keepdims=True) if axes else ds
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), dbias, None, None, None


def _after_dropout(signed: Array, key: Array | None) -> Array:
    """The probabilities after dropout, unscaled; without dropout they are `signed` itself, and no second array is made."""
    return signed if key is None else jnp.maximum(signed, 0)


_attention.defvjp(_attention_forward, _attention_backward)
