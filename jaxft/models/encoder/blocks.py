"""The Linen modules of an encoder, which all apply a single layer; EncoderConfig says which of them a model has."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxft.core.random_streams import OfLayer
from jaxft.models.encoder.adapters import ADAPTER, Bottleneck
from jaxft.models.encoder.attention import LayerOptions
from jaxft.models.encoder.config import DropoutRates, DropoutSite, EncoderConfig
from jaxft.models.encoder.disentangled import Convolution, DisentangledSelfAttention
from jaxft.models.encoder.dropout import dropout, fold
from jaxft.models.encoder.layers import ACTIVATIONS, Dense, Embed, LayerNorm, elementwise, remat
from jaxft.models.encoder.positions import rotate, skip_padding

Array = jax.Array


class Embeddings(nn.Module):
    """Sum of word, position and type embeddings, normalised, projected. [B, T] ids to [B, T, D]."""

    config: EncoderConfig
    dtype: Any

    @nn.compact
    def __call__(self, inputs: dict[str, Array], rates: DropoutRates, key: Array | None) -> Array:
        c = self.config
        words = Embed(c.vocab_size, c.width, c.table_init(c.pad_token_id), c.new_words, name="word_embeddings")
        x = inputs["inputs_embeds"] if "inputs_embeds" in inputs else words(inputs["input_ids"])
        # A text may contain the padding token, whose embedding has no gradient (PyTorch's `padding_idx`).
        padding = inputs["input_ids"] == c.pad_token_id if "input_ids" in inputs else None
        x = x if padding is None else _without_gradient(x, padding)
        if c.type_vocab_size:
            x = x + Embed(c.type_vocab_size, c.width, c.table_init(), name="token_type_embeddings")(inputs["token_type_ids"])
        if c.absolute_positions:
            positions = Embed(c.max_positions, c.width, c.position_init(), name="position_embeddings")
            of_positions = positions(self._positions(inputs) + c.position_offset)
            is_skipped = c.position_offset and padding is not None
            x = x + (_without_gradient(of_positions, padding) if is_skipped else of_positions)
        if c.projection == "before_norm":
            x = Dense(c.hidden_size, c.kernel_init(), use_bias=False, lora=c.lora, name="projection")(x)
        x = LayerNorm(c.layer_norm_eps, c.norm_bias, name="LayerNorm")(x).astype(self.dtype)
        if c.masked_embeddings:
            x = jnp.where((inputs["segment_ids"] > 0)[:, :, None], x, jnp.zeros((), x.dtype))
        x = dropout(x, rates.of(DropoutSite.EMBEDDINGS), key)
        if c.projection == "after_norm":
            x = Dense(c.hidden_size, c.kernel_init(), lora=c.lora, name="projection")(x)
        return x

    def _positions(self, inputs: dict[str, Array]) -> Array:
        """Rows of the position table, int32 [B, T], counted from position_offset."""
        if "positions" in inputs:
            return inputs["positions"]
        positions, offset = inputs["position_ids"], self.config.position_offset
        return skip_padding(positions, inputs["input_ids"], offset - 1) if offset and "input_ids" in inputs else positions


@jax.custom_vjp
def _without_gradient(x: Array, where: Array) -> Array:
    """x [B, T, D], without a gradient where `where` [B, T] is true; a choice between x and `stop_gradient(x)` would save x
    twice."""
    return x


_without_gradient.defvjp(
    lambda x, where: (x, where), lambda where, g: (jnp.where(where[:, :, None], jnp.zeros((), g.dtype), g), None)
)


def activation(name: str, config: EncoderConfig) -> Callable[[Array], Array]:
    """An activation by its name in config.json; in a loop, the form that saves less for the backward pass."""
    return partial(elementwise, ACTIVATIONS[name]) if config.in_loop else ACTIVATIONS[name]


class SelfAttention(nn.Module):
    """Multi-head self-attention without its output projection. [B, T, D] to [B, T, D], with `options.outputs`."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array, options: LayerOptions) -> tuple[Array, dict[str, Array]]:
        c, key = self.config, fold(options.key, OfLayer.ATTENTION)
        split = (*x.shape[:2], c.num_heads, c.hidden_size // c.num_heads)
        if c.fused:
            qkv = Dense(3 * c.hidden_size, c.kernel_init(), c.attention_bias, c.lora, name="qkv")(x)
            q, k, v = (part.reshape(split) for part in jnp.split(qkv, 3, axis=-1))
        else:
            q, k, v = (
                Dense(c.hidden_size, c.kernel_init(), c.attention_bias, c.lora, name=name)(x).reshape(split)
                for name in ("query", "key", "value")
            )
        window, found = None, options.projections(q, k, v)
        if c.rotary:
            tables = jax.tree.map(lambda near, far: jnp.where(options.local, near, far), *options.shared["rotary"])
            q, k = rotate(q, tables), rotate(k, tables)
            window = jnp.where(options.local, c.rotary.window, x.shape[1])
        context, attention = options.attend(q, k, v, key, bias=options.shared.get("distance_bias"), window=window)
        return context, found | attention


class Adapter(nn.Module):
    """A narrow layer with a residual (see `Bottleneck`). [..., D] to [..., D]."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c, b = self.config, self.config.adapter
        assert isinstance(b, Bottleneck)
        narrow = activation(b.activation, c)(Dense(b.size, c.kernel_init(), name="down")(x))
        return x + Dense(c.hidden_size, c.kernel_init(), name="up")(narrow)


class Projection(nn.Module):
    """The end of both sublayers: projection to the hidden size, dropout, and an optional adapter; in a post-norm layer also
    residual and layer norm. [..., F] to [..., D]."""

    config: EncoderConfig
    site: DropoutSite
    use_bias: bool

    @nn.compact
    def __call__(self, x: Array, options: LayerOptions, residual: Array) -> Array:
        c, is_attention = self.config, self.site == DropoutSite.ATTENTION_OUTPUT
        key = fold(options.key, OfLayer.ATTENTION_OUTPUT if is_attention else OfLayer.OUTPUT)
        x = Dense(c.hidden_size, c.output_init(), self.use_bias, c.lora, name="dense")(x)
        x = dropout(x, options.rates.of(self.site), key)
        if self.has_variable("params", ADAPTER):
            x = Adapter(c, name=ADAPTER)(x)
        return residual + x if c.pre_norm else LayerNorm(c.layer_norm_eps, remat=c.in_loop, name="LayerNorm")(x + residual)


class Attention(nn.Module):
    """The attention sublayer with its residual. [B, T, D] to [B, T, D], with `options.outputs`.

    A pre-norm layer begins with a norm, except for the first layer, which follows the norm of the embeddings.
    """

    config: EncoderConfig
    first: bool

    @nn.compact
    def __call__(self, x: Array, options: LayerOptions) -> tuple[Array, dict[str, Array]]:
        c, residual = self.config, x
        if c.pre_norm and not self.first:
            x = LayerNorm(c.layer_norm_eps, c.norm_bias, c.in_loop, name="LayerNorm")(x)
        kind = DisentangledSelfAttention if c.relative or c.attention_terms > 1 else SelfAttention
        context, found = kind(c, name="self")(x, options)
        output = Projection(c, DropoutSite.ATTENTION_OUTPUT, c.attention_bias, name="output")
        return output(context, options, residual), found


class Intermediate(nn.Module):
    """The first half of the feed-forward sublayer. [B, T, D] to [B, T, intermediate_size]."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = self.config
        x = Dense(c.intermediate_size * (2 if c.gated else 1), c.kernel_init(), c.mlp_bias, c.lora, name="dense")(x)
        act = activation(c.activation, c)
        if not c.gated:
            return act(x)
        return remat(lambda x, gate: act(x) * gate, c.in_loop)(*jnp.split(x, 2, axis=-1))


class PostNormLayer(nn.Module):
    """One layer as in BERT: norms after the residuals (Devlin et al. 2019, arXiv:1810.04805). [B, T, D] to [B, T, D],
    with `options.outputs`."""

    config: EncoderConfig
    first: bool

    @nn.compact
    def __call__(self, x: Array, options: LayerOptions) -> tuple[Array, dict[str, Array]]:
        c, embedded = self.config, x
        x, found = Attention(c, self.first, name="attention")(x, options)
        wide = Intermediate(c, name="intermediate")(x)
        x = Projection(c, DropoutSite.OUTPUT, c.mlp_bias, name="output")(wide, options, x)
        if self.first and c.convolution:
            x = Convolution(c, name="convolution")(embedded, x, options)
        return x, found


class PreNormLayer(nn.Module):
    """One layer as in ModernBERT: norms before the sublayers (Warner et al. 2024, arXiv:2412.13663). [B, T, D] to
    [B, T, D], with `options.outputs`."""

    config: EncoderConfig
    first: bool

    @nn.compact
    def __call__(self, x: Array, options: LayerOptions) -> tuple[Array, dict[str, Array]]:
        c = self.config
        x, found = Attention(c, self.first, name="attention")(x, options)
        normed = LayerNorm(c.layer_norm_eps, c.norm_bias, c.in_loop, name="LayerNorm")(x)
        wide = Intermediate(c, name="intermediate")(normed)
        wide = dropout(wide, options.rates.of(DropoutSite.INTERMEDIATE), fold(options.key, OfLayer.BETWEEN))
        return Projection(c, DropoutSite.OUTPUT, c.mlp_bias, name="output")(wide, options, x), found


class Pooler(nn.Module):
    """Dense and tanh on the first token of each example. [..., D] to [..., D]."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = self.config
        return jnp.tanh(Dense(c.hidden_size, c.kernel_init(), lora=c.lora, name="dense")(x))
