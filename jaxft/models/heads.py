"""The heads of tasks. A head has one or more parts, which are described by the data of a family."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxft.core.random_streams import OfHead, OfLayer, OfMicroBatch
from jaxft.core.tree import Params
from jaxft.models.encoder.config import DropoutRates, EncoderConfig, Fields
from jaxft.models.encoder.dropout import dropout, fold
from jaxft.models.encoder.encoder import Encoder, gather, mean_pool
from jaxft.models.encoder.layers import ACTIVATIONS, NEW, Dense, LayerNorm, initial, run
from jaxft.models.encoder.matmul import dense

Array = jax.Array
POOLER, FIRST, MEAN, TOKENS = "pooler", "first", "mean", "tokens"
LABELS, VOCABULARY = "labels", "vocabulary"


@dataclass(frozen=True)
class Field:
    """A value of a `Part` that is read from this field of config.json."""

    name: str
    default: Any


@dataclass(frozen=True)
class Transform:
    """A dense layer with an activation before the last layer of a part.

    Attributes:
      activation: a name of ACTIVATIONS.
      narrow: its output has the size of the embeddings instead of the hidden size.
      norm: a layer norm follows.
    """

    activation: str | Field
    narrow: bool = False
    norm: bool = False
    use_bias: bool | Field = True


@dataclass(frozen=True)
class Part:
    """One output of a head.

    Attributes:
      source: its input: `pooler`, `first` token, `mean` of the tokens, or all `tokens`.
      outputs: number of outputs, `labels` or `vocabulary`.
      names: our module (or parameter) -> Hugging Face's module, outside the encoder's prefix.
      transform: the layer before the last layer.
      input_dropout, dropout: fields of the dropout rates before the transform and before the last layer.
      squeeze: drop the axis of a single output.
      tied: the last layer is the table of word embeddings (only for `vocabulary`).
      module: prefix of its parameters, if a head has several parts.
      copies: Hugging Face's name -> the name of the tensor that it repeats; `words` is the embedding table.
      flax_names: our parameter -> its name in a msgpack file, if that differs from PyTorch's.
    """

    source: str | Field
    outputs: int | str
    names: Mapping[str, str]
    transform: Transform | None = None
    input_dropout: Fields = ()
    dropout: Fields = ()
    squeeze: bool = False
    use_bias: bool | Field = True
    tied: bool | Field = True
    module: str = ""
    copies: Mapping[str, str] = field(default_factory=dict)
    flax_names: Mapping[str, str] = field(default_factory=dict)


class TransformModule(nn.Module):
    """Dense layer, activation and optional norm: [..., D] to [..., D], or to the size of the embeddings."""

    config: EncoderConfig
    transform: Transform

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c, t = self.config, self.transform
        size = c.width if t.narrow else c.hidden_size
        x = ACTIVATIONS[str(t.activation)](Dense(size, c.output_init(), bool(t.use_bias), c.lora, name="dense")(x))
        return LayerNorm(c.layer_norm_eps, c.norm_bias, name="LayerNorm")(x) if t.norm else x


class Decoder(nn.Module):
    """Logits of all words, [..., D] to [..., V]: a product with the word embeddings, or with a separate kernel.

    New words are separate leaves if they are in the table (see `Embed`).
    """

    config: EncoderConfig
    tied: bool
    use_bias: bool

    @nn.compact
    def __call__(self, x: Array, words: Params) -> Array:
        new = self.config.new_words
        scores = [self._scores(x, words, "", self.config.vocab_size - new)]
        scores += [self._scores(x, words, NEW, new)] if new else []
        return jnp.concatenate(scores, axis=-1) if new else scores[0]

    def _scores(self, x: Array, words: Params, prefix: str, size: int) -> Array:
        shape, init = (x.shape[-1], size), self.config.output_init()
        kernel = words[f"{prefix}embedding"].T if self.tied else self.param(f"{prefix}kernel", init, shape, jnp.float32)
        y = dense(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], size)
        if not self.use_bias:
            return y
        bias = self.param(f"{prefix}bias", nn.initializers.zeros, (size,), jnp.float32)
        return y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + bias.shape)


class PartModule(nn.Module):
    """One part of a head: [..., D] to [..., outputs]."""

    config: EncoderConfig
    part: Part
    num_labels: int

    @nn.compact
    def __call__(self, x: Array, words: Params, input_rate: Any, rate: Any, key: Array | None) -> Array:
        c, p = self.config, self.part
        x = dropout(x, input_rate, fold(key, OfHead.INPUT) if p.input_dropout else None)
        if p.transform:
            x = TransformModule(c, p.transform, name="transform")(x)
        x = dropout(x, rate, key if p.dropout else None)
        if p.outputs == VOCABULARY:
            return Decoder(c, bool(p.tied), bool(p.use_bias), name="decoder")(x, words)
        features = self.num_labels if p.outputs == LABELS else int(p.outputs)
        return Dense(features, c.kernel_init(c.init_head), bool(p.use_bias), c.lora, name="classifier")(x)


@dataclass(frozen=True)
class Head:
    """A named head.

    Attributes:
      kind: a Hugging Face task name.
      parts: output name -> part.
      num_labels: number of labels, if a part has `labels` outputs.
    """

    kind: str
    parts: Mapping[str, Part] = field(default_factory=dict)
    num_labels: int = 0

    def init(self, config: EncoderConfig, key: Array) -> Params:
        params: Params = {}
        hidden, new = jnp.zeros((1, 1, config.hidden_size)), config.new_words
        words = {"embedding": jnp.zeros((config.vocab_size - new, config.width))}
        words |= {f"{NEW}embedding": jnp.zeros((new, config.width))} if new else {}
        for i, part in enumerate(self.parts.values()):
            module = PartModule(config, part, self.num_labels)
            k = jax.random.fold_in(key, i) if i else key
            own = initial(module, k, hidden, words, 0.0, 0.0, None)
            params |= {part.module: own} if part.module else own
        return params

    def apply(
        self,
        encoder: Encoder,
        params: Params,
        name: str,
        hidden: Array,
        inputs: dict[str, Array],
        *,
        rates: DropoutRates,
        key: Array | None,
    ) -> dict[str, Array]:
        """Outputs by their Hugging Face names, float32.

        Args:
          params: {"encoder": ..., "heads": {name: ...}}.
          hidden: [B, T, D].
          inputs: the batch; `first_token` int32 [B, M] is the first token of each example. If there is `token_positions`
            int32 [B, P], parts with `tokens` as source use these tokens only, so that no array [B, T, vocabulary] is made.
          key: as in `Encoder.apply`.

        Returns:
          [B, M, outputs] for parts of whole examples, [B, T, outputs] (or [B, P, outputs]) for parts of tokens.
        """
        first = gather(hidden, inputs["first_token"])
        slots = inputs["first_token"].shape[1]
        if self.kind == "feature-extraction":
            outputs = {"last_hidden_state": hidden, "mean_output": mean_pool(hidden, inputs["segment_ids"], slots)}
            if encoder.pooler:
                outputs["pooler_output"] = encoder.pool(params["encoder"], first, key)
            return {key: x.astype(jnp.float32) for key, x in outputs.items()}
        sources = {
            POOLER: lambda: encoder.pool(params["encoder"], first, key),
            FIRST: lambda: first,
            MEAN: lambda: mean_pool(hidden, inputs["segment_ids"], slots).astype(hidden.dtype),
            TOKENS: lambda: gather(hidden, inputs["token_positions"]) if "token_positions" in inputs else hidden,
        }
        words = params["encoder"]["embeddings"]["word_embeddings"]
        outputs = {}
        for i, (output, part) in enumerate(self.parts.items()):
            part_params = params["heads"].get(name, {})
            part_params = part_params[part.module] if part.module else part_params
            module = PartModule(encoder.config, part, self.num_labels)
            k = fold(key, OfMicroBatch.HEAD, i) if i else fold(key, OfMicroBatch.HEAD)
            x = sources[str(part.source)]()
            drops = (rates.of_head(name, part.input_dropout), rates.of_head(name, part.dropout))
            logits = run(module, part_params, x, words, *drops, k, adapter_key=fold(k, OfLayer.ADAPTERS))
            outputs[output] = (logits[..., 0] if part.squeeze else logits).astype(jnp.float32)
        if self.kind == "question-answering":
            spans = outputs.pop("logits")
            outputs |= {"start_logits": spans[..., 0], "end_logits": spans[..., 1]}
        return outputs
