"""The modules of DeBERTa-v2 and v3: disentangled attention, and a convolution parallel to the first layer (He et al. 2021,
arXiv:2006.03654 and arXiv:2111.09543)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxft.core.random_streams import OfAttention, OfLayer
from jaxft.models.encoder.attention import LayerOptions
from jaxft.models.encoder.config import DropoutSite, EncoderConfig
from jaxft.models.encoder.dropout import dropout, fold
from jaxft.models.encoder.layers import ACTIVATIONS, Dense, LayerNorm
from jaxft.models.encoder.matmul import gathered

Array = jax.Array


class DisentangledSelfAttention(nn.Module):
    """DeBERTa's attention: content to content, content to position, position to content. [B, T, D] to [B, T, D]."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array, options: LayerOptions) -> tuple[Array, dict[str, Array]]:
        c, r, shared = self.config, self.config.relative, options.shared
        key = fold(options.key, OfLayer.ATTENTION)
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
            table = shared["relative"].astype(x.dtype)
            of_table = fold(key, OfAttention.RELATIVE_POSITIONS)
            table = dropout(table, options.rates.of(DropoutSite.OUTPUT), of_table, shared=True)
            index = shared["relative_index"][None, None]
            bias = jnp.zeros((), jnp.float32)
            if "c2p" in r.terms:
                keys = content["key"] if r.share_keys else project("position_key")
                scores = jnp.einsum("btnh,rnh->bntr", q, heads(keys(table)), preferred_element_type=jnp.float32)
                bias = bias + jnp.take_along_axis(scores, index, axis=-1)
            if "p2c" in r.terms:
                queries = content["query"] if r.share_keys else project("position_query")
                scores = jnp.einsum("bsnh,rnh->bnsr", k, heads(queries(table)), preferred_element_type=jnp.float32)
                bias = bias + jnp.take_along_axis(scores, index.swapaxes(2, 3), axis=-1).swapaxes(2, 3)
            bias = bias * scale
        context, found = options.attend(q, k, v, fold(key, OfAttention.PROBABILITIES), scale=scale, bias=bias)
        return context, found | options.projections(q, k, v)


class Convolution(nn.Module):
    """A convolution over the embeddings, added to the output of the first layer [B, T, D]; examples do not mix."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, embedded: Array, x: Array, options: LayerOptions) -> Array:
        c, conv, segment_ids = self.config, self.config.convolution, options.shared["segment_ids"]
        key = fold(options.key, OfLayer.BETWEEN)
        assert conv is not None
        size, features = conv.size, c.hidden_size
        kernel = self.param("kernel", c.kernel_init(), (size, features // conv.groups, features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (features,), jnp.float32)
        real = segment_ids > 0
        y = jnp.zeros(embedded.shape, jnp.float32)
        for tap in range(size):  # one product per tap, so that neighbours of other examples can be masked
            shift = tap - (size - 1) // 2
            neighbour = jnp.roll(embedded, -shift, axis=1)
            same = jnp.roll(segment_ids, -shift, axis=1) == segment_ids
            position = jnp.arange(segment_ids.shape[1], dtype=jnp.int32) + shift
            same = same & ((position >= 0) & (position < segment_ids.shape[1]))[None]
            neighbour = jnp.where((same & real)[:, :, None], neighbour, jnp.zeros((), neighbour.dtype))
            grouped = neighbour.reshape(*neighbour.shape[:2], conv.groups, features // conv.groups)
            taps = gathered(kernel[tap].astype(x.dtype)).reshape(-1, conv.groups, features // conv.groups)
            product = jnp.einsum("btgi,igo->btgo", grouped, taps, preferred_element_type=jnp.float32)
            y = y + product.reshape(y.shape)
        y = jnp.where(real[:, :, None], y + bias[None, None], 0.0).astype(x.dtype)
        y = ACTIVATIONS[conv.activation](dropout(y, options.rates.of(DropoutSite.OUTPUT), key))
        return jnp.where(real[:, :, None], LayerNorm(c.layer_norm_eps, name="LayerNorm")(x + y), jnp.zeros((), x.dtype))
