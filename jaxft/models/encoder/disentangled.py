"""The modules of DeBERTa-v2 and v3: disentangled attention, and a convolution beside the first layer (He et al. 2021,
arXiv:2006.03654 and arXiv:2111.09543)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxft.core.random_streams import OfAttention
from jaxft.models.encoder.config import DropoutRates, DropoutSite, EncoderConfig
from jaxft.models.encoder.dropout import dropout, fold
from jaxft.models.encoder.layers import ACTIVATIONS, Dense, LayerNorm
from jaxft.models.encoder.matmul import gathered

Array = jax.Array


class DisentangledSelfAttention(nn.Module):
    """DeBERTa's attention: content to content, content to position, position to content (arXiv:2006.03654).

    `shared` contains `relative` [2 * span, D], the table of relative embeddings, and `relative_index` [T, T] into it.
    """

    config: EncoderConfig

    @nn.compact
    def __call__(
        self, x: Array, shared: dict[str, Any], rates: DropoutRates, key: Array | None, local: Any, probabilities: bool
    ) -> Any:
        c, r = self.config, self.config.relative
        head_size = c.hidden_size // c.num_heads

        def heads(y: Array) -> Array:
            return y.reshape(*y.shape[:-1], c.num_heads, head_size)

        def project(name: str) -> Dense:
            return Dense(c.hidden_size, c.kernel_init(), lora=c.lora, name=name)

        content = {name: project(name) for name in ("query", "key", "value")}
        q, k, v = (heads(content[name](x)) for name in ("query", "key", "value"))
        scale = (head_size * c.attention_terms) ** -0.5
        bias = None
        if r and r.terms:
            table = dropout(
                shared["relative"].astype(x.dtype), rates.of(DropoutSite.OUTPUT), fold(key, OfAttention.RELATIVE_POSITIONS)
            )
            index = shared["relative_index"][None, None]
            bias = jnp.zeros((), jnp.float32)
            if "c2p" in r.terms:
                keys = content["key"] if r.share_keys else project("position_key")
                scores = jnp.einsum("btnh,rnh->bntr", q, heads(keys(table)), preferred_element_type=jnp.float32)
                bias = bias + _look_up(scores, index)
            if "p2c" in r.terms:
                queries = content["query"] if r.share_keys else project("position_query")
                scores = jnp.einsum("bsnh,rnh->bnsr", k, heads(queries(table)), preferred_element_type=jnp.float32)
                bias = bias + _look_up(scores, index.swapaxes(2, 3)).swapaxes(2, 3)
            bias = bias * scale
        context, p = shared["attend"](
            q,
            k,
            v,
            scale=scale,
            bias=bias,
            rate=rates.of(DropoutSite.ATTENTION),
            key=fold(key, OfAttention.PROBABILITIES),
            by_keys=rates.by_keys,
            return_probabilities=probabilities,
        )
        return context.reshape(x.shape), p


class Convolution(nn.Module):
    """A convolution over the embeddings, added to the output of the first layer (DeBERTa-v2). Examples do not mix."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, embedded: Array, x: Array, segment_ids: Array, rates: DropoutRates, key: Array | None) -> Array:
        c, conv = self.config, self.config.convolution
        assert conv is not None
        size, features = conv.size, c.hidden_size
        kernel = self.param("kernel", c.kernel_init(), (size, features // conv.groups, features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (features,), jnp.float32)
        real = segment_ids > 0
        y = jnp.zeros(embedded.shape, jnp.float32)
        for tap in range(size):  # one product per tap, so that neighbours of other examples can be masked
            shift = tap - (size - 1) // 2
            neighbour = jnp.roll(embedded, -shift, axis=1)
            same = (jnp.roll(segment_ids, -shift, axis=1) == segment_ids) & _in_range(segment_ids.shape[1], shift)[None]
            neighbour = jnp.where((same & real)[:, :, None], neighbour, jnp.zeros((), neighbour.dtype))
            grouped = neighbour.reshape(*neighbour.shape[:2], conv.groups, features // conv.groups)
            taps = gathered(kernel[tap].astype(x.dtype)).reshape(-1, conv.groups, features // conv.groups)
            product = jnp.einsum("btgi,igo->btgo", grouped, taps, preferred_element_type=jnp.float32)
            y = y + product.reshape(y.shape)
        y = jnp.where(real[:, :, None], y + bias[None, None], 0.0).astype(x.dtype)
        y = ACTIVATIONS[conv.activation](dropout(y, rates.of(DropoutSite.OUTPUT), key))
        return jnp.where(real[:, :, None], LayerNorm(c.layer_norm_eps, name="LayerNorm")(x + y), jnp.zeros((), x.dtype))


def _look_up(scores: Array, index: Array) -> Array:
    """scores [B, N, T, R] at rows index [1, 1, T, S]: [B, N, T, S]."""
    return jnp.take_along_axis(scores, index, axis=-1)


def _in_range(length: int, shift: int) -> Array:
    """Whether the neighbour at distance `shift` is within the row, bool [length]."""
    neighbour = jnp.arange(length, dtype=jnp.int32) + shift
    return (neighbour >= 0) & (neighbour < length)
