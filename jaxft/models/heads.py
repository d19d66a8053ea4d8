"""Heads: what is put on the encoder for a task. Pure functions over `params["heads"][name]`."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxft.models.encoder import HEAD, Encoder, EncoderConfig, Rates, gather_first
from jaxft.models.layers import Dense, dropout, fold, initial, normal_init, run
from jaxft.tree import Params

Array = jax.Array


class SequenceClassifier(nn.Module):
    """Dropout and a dense layer on the pooled first token. [B, M, D] to [B, M, labels]."""

    config: EncoderConfig
    num_labels: int

    @nn.compact
    def __call__(self, pooled: Array, rate: Any, key: Array | None) -> Array:
        pooled = dropout(pooled, rate, key)
        return Dense(self.num_labels, normal_init(self.config.initializer_range), name="classifier")(pooled)


@dataclass(frozen=True)
class Head:
    """A named head: its kind is a Hugging Face task name."""

    kind: str
    num_labels: int = 0

    def init(self, config: EncoderConfig, key: Array) -> Params:
        """Random parameters."""
        if self.kind == "feature-extraction":
            return {}
        pooled = jnp.zeros((1, 1, config.hidden_size), jnp.float32)
        return initial(SequenceClassifier(config, self.num_labels), key, pooled, 0.0, None)

    def apply(
        self,
        encoder: Encoder,
        params: Params,
        name: str,
        hidden: Array,
        inputs: dict[str, Array],
        *,
        rates: Rates,
        key: Array | None,
    ) -> dict[str, Array]:
        """Outputs by their Hugging Face names, float32.

        Args:
          encoder: for its pooler.
          params: {"encoder": ..., "heads": {name: ...}}.
          name: which head.
          hidden: [B, T, D].
          inputs: the batch; `first_token` int32 [B, M] says where examples start.
          rates, key: as in `Encoder.apply`.
        """
        first = gather_first(hidden, inputs["first_token"])
        pooled = encoder.pool(params["encoder"], first)
        if self.kind == "feature-extraction":
            return {
                "last_hidden_state": hidden.astype(jnp.float32),
                "pooler_output": pooled.astype(jnp.float32),
            }
        module = SequenceClassifier(encoder.config, self.num_labels)
        logits = run(module, params["heads"][name], pooled, rates.classifier, fold(key, HEAD))
        return {"logits": logits.astype(jnp.float32)}
