"""The encoder: embeddings, a stack of post-norm transformer layers run by a scan, pooler (Devlin et al. 2019,
arXiv:1810.04805). Linen modules hold one layer; `Encoder` maps them over stacked parameters as a pure function."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxft.models.attention import attend
from jaxft.models.layers import ACTIVATIONS, Dense, Embed, LayerNorm, dropout, fold, initial, normal_init, run
from jaxft.tree import Params, span, stacks

Array = jax.Array
EMBEDDINGS, LAYERS, HEAD = 0, 1, 2  # streams of random numbers, folded into the key of a step


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder in the field's terms; `families` translates every config.json into this."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int
    type_vocab_size: int
    activation: str
    layer_norm_eps: float
    initializer_range: float
    dropout: float
    attention_dropout: float
    pad_token_id: int


@dataclass(frozen=True)
class Rates:
    """Dropout rates; floats, or traced scalars in a sweep."""

    hidden: Any
    attention: Any
    classifier: Any


@dataclass(frozen=True)
class Policy:
    """How, not what, is computed: nothing here changes results beyond rounding."""

    dtype: str = "float32"
    unroll: int = 1


class Embeddings(nn.Module):
    """Sum of word, position and type embeddings, normalised. [B, T] ids to [B, T, D]."""

    config: EncoderConfig
    dtype: Any

    @nn.compact
    def __call__(self, inputs: dict[str, Array], rate: Any, key: Array | None) -> Array:
        c = self.config
        init = normal_init(c.initializer_range)
        words = Embed(c.vocab_size, c.hidden_size, init, name="word_embeddings")
        x = inputs["inputs_embeds"] if "inputs_embeds" in inputs else words(inputs["input_ids"])
        types = Embed(c.type_vocab_size, c.hidden_size, init, name="token_type_embeddings")
        positions = Embed(c.max_positions, c.hidden_size, init, name="position_embeddings")
        x = x + types(inputs["token_type_ids"]) + positions(inputs["position_ids"])
        x = LayerNorm(c.layer_norm_eps, name="LayerNorm")(x).astype(self.dtype)
        return dropout(x, rate, key)


class SelfAttention(nn.Module):
    """Multi-head self-attention. [B, T, D] to [B, T, D]."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array, segment_ids: Array, rate: Any, key: Array | None, probabilities: bool) -> Any:
        c = self.config
        init = normal_init(c.initializer_range)
        split = (*x.shape[:2], c.num_heads, c.hidden_size // c.num_heads)
        q, k, v = (Dense(c.hidden_size, init, name=name)(x).reshape(split) for name in ("query", "key", "value"))
        context, p = attend(q, k, v, segment_ids, rate=rate, key=key, return_probabilities=probabilities)
        return context.reshape(x.shape), p


class Output(nn.Module):
    """Dense, dropout, residual, layer norm: the end of both sublayers."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array, residual: Array, rate: Any, key: Array | None) -> Array:
        x = Dense(self.config.hidden_size, normal_init(self.config.initializer_range), name="dense")(x)
        return LayerNorm(self.config.layer_norm_eps, name="LayerNorm")(dropout(x, rate, key) + residual)


class Attention(nn.Module):
    """The first sublayer."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array, segment_ids: Array, rates: Rates, key: Array | None, probabilities: bool) -> Any:
        context, p = SelfAttention(self.config, name="self")(x, segment_ids, rates.attention, fold(key, 0), probabilities)
        return Output(self.config, name="output")(context, x, rates.hidden, fold(key, 1)), p


class Intermediate(nn.Module):
    """The widening half of the feed-forward sublayer."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Dense(self.config.intermediate_size, normal_init(self.config.initializer_range), name="dense")(x)
        return ACTIVATIONS[self.config.activation](x)


class Layer(nn.Module):
    """One transformer layer. [B, T, D] to [B, T, D]."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array, segment_ids: Array, rates: Rates, key: Array | None, probabilities: bool) -> Any:
        x, p = Attention(self.config, name="attention")(x, segment_ids, rates, key, probabilities)
        wide = Intermediate(self.config, name="intermediate")(x)
        return Output(self.config, name="output")(wide, x, rates.hidden, fold(key, 2)), p


class Pooler(nn.Module):
    """Dense and tanh on the first token of each example. [..., D] to [..., D]."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Dense(self.config.hidden_size, normal_init(self.config.initializer_range), name="dense")(x)
        return jnp.tanh(x)


@dataclass(frozen=True)
class Encoder:
    """An encoder as two pure functions, `init` and `apply`, over {"embeddings", "layer": {"0:L": stack}, "pooler"}."""

    config: EncoderConfig

    def init(self, key: Array) -> Params:
        """Random parameters, distributed as Hugging Face initialises them."""
        c = self.config
        ids = jnp.zeros((1, 1), jnp.int32)
        inputs = {"input_ids": ids, "token_type_ids": ids, "position_ids": ids}
        x = jnp.zeros((1, 1, c.hidden_size), jnp.float32)
        rates = Rates(0.0, 0.0, 0.0)

        def layer(k: Array) -> Params:
            return initial(Layer(c), k, x, ids, rates, None, False)

        return {
            "embeddings": initial(Embeddings(c, jnp.float32), jax.random.fold_in(key, EMBEDDINGS), inputs, 0.0, None),
            "layer": {
                span(0, c.num_layers): jax.vmap(layer)(jax.random.split(jax.random.fold_in(key, LAYERS), c.num_layers))
            },
            "pooler": initial(Pooler(c), jax.random.fold_in(key, HEAD), x),
        }

    def apply(
        self,
        params: Params,
        inputs: dict[str, Array],
        *,
        rates: Rates,
        key: Array | None = None,
        policy: Policy = Policy(),
        outputs: Collection[str] = (),
    ) -> dict[str, Array]:
        """Run the encoder.

        Args:
          params: parameters; the layers may be cut into any number of stacks, each of which is one scan.
          inputs: int32 [B, T] `input_ids` (or float `inputs_embeds` [B, T, D]), `token_type_ids`, `position_ids` and
            `segment_ids` (0 for padding).
          rates: dropout rates.
          key: JAX key; None is deterministic.
          policy: type of activations, unrolling.
          outputs: what to return beside `last_hidden_state` [B, T, D]: `hidden_states` [L + 1, B, T, D] with the
            embeddings first, `attentions` [L, B, N, T, T] probabilities before dropout.
        """
        c = self.config
        dtype = jnp.dtype(policy.dtype)
        x = run(Embeddings(c, dtype), params["embeddings"], inputs, rates.hidden, fold(key, EMBEDDINGS))
        layers_key = fold(key, LAYERS)
        with_states, with_attentions = "hidden_states" in outputs, "attentions" in outputs

        def body(x: Array, layer: tuple[Params, Array]) -> tuple[Array, dict[str, Array]]:
            weights, number = layer
            y, p = run(Layer(c), weights, x, inputs["segment_ids"], rates, fold(layers_key, number), with_attentions)
            return y, ({"hidden_states": y} if with_states else {}) | ({"attentions": p} if with_attentions else {})

        collected: list[dict[str, Array]] = []
        embedded = x
        for start, stop, weights in stacks(params["layer"]):
            numbers = jnp.arange(start, stop, dtype=jnp.int32)
            x, extra = jax.lax.scan(body, x, (weights, numbers), unroll=min(policy.unroll, stop - start))
            collected.append(extra)
        result = {"last_hidden_state": x}
        if with_states:
            result["hidden_states"] = jnp.concatenate([embedded[None], *[e["hidden_states"] for e in collected]])
        if with_attentions:
            result["attentions"] = jnp.concatenate([e["attentions"] for e in collected])
        return result

    def pool(self, params: Params, first_tokens: Array) -> Array:
        """The pooler on [..., D] hidden states of first tokens."""
        return run(Pooler(self.config), params["pooler"], first_tokens)


def gather_first(hidden: Array, first_token: Array) -> Array:
    """Hidden states at the first token of each example: [B, T, D] and int32 [B, M] to [B, M, D]."""
    return jnp.take_along_axis(hidden, first_token[:, :, None], axis=1)
