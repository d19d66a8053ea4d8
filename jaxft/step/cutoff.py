"""Cut-off (Shen et al. 2020, arXiv:2009.13818): parts of an example's word embeddings are zero for one step.

What is cut is drawn by (key of the step, number of the example), so it does not depend on the layout.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxft.core.example_bits import example_bits
from jaxft.step.regularization import sequence_lengths

Array = jax.Array
Batch = dict[str, Array]
TOKENS, FEATURES = "cutoff_tokens", "cutoff_features"  # 0 where embeddings are cut, else 1: [K, R, T] and [K, R, M, D]
_COUNTER = 1 << 30  # what is drawn for a whole example has counters from here on; positions are below


@dataclass(frozen=True)
class Cutoff:
    """Which share of an example's embeddings is cut; rates are from 0 to below 1, and 0 cuts nothing.

    Attributes:
      tokens: share of single tokens, chosen at random.
      span: share of tokens in one span, whose place is random.
      features: share of the embedding's features, the same ones for all tokens of an example.
      share: probability that an example is changed at all.
      width: features D of a word embedding.
    """

    tokens: float = 0.0
    span: float = 0.0
    features: float = 0.0
    share: float = 1.0
    width: int = 0

    def prepare(self, batch: Batch, key: Array) -> Batch:
        """Add TOKENS and FEATURES to the batch of a whole step.

        A rate r cuts floor(r N) of an example's N tokens, at least one if N > 1, but never the first, which heads read.

        Args:
          batch: int32 `segment_ids`, `position_ids` [K, R, T], `example` [K, R, N] and `first_token` [K, R, M]; the M / N
            texts of an example (the choices of multiple choice) follow one another, and are cut alike.
          key: of the step.
        """
        texts = batch["first_token"].shape[-1] // batch["example"].shape[-1]
        segments, example = batch["segment_ids"], jnp.repeat(batch["example"], texts, axis=-1)
        slot = jnp.maximum(segments - 1, 0)
        lengths = sequence_lengths(segments, example.shape[-1])
        chosen, place = example_bits(key, example, jnp.full_like(example, _COUNTER))
        changed = _uniform(chosen) < self.share
        new = dict(batch)
        keep = jnp.ones(segments.shape, bool)
        if self.tokens:
            order, _ = example_bits(key, jnp.take_along_axis(example, slot, axis=-1), batch["position_ids"])
            order = jnp.where(batch["position_ids"] > 0, order >> 1, jnp.uint32(2**32 - 1))  # the first token is last
            same = segments[..., :, None] == segments[..., None, :]
            rank = (same & (order[..., None, :] < order[..., :, None])).sum(-1)
            keep &= rank >= jnp.take_along_axis(_count(lengths, self.tokens), slot, axis=-1)
        if self.span:
            count = _count(lengths, self.span)
            begin = 1 + (_uniform(place) * jnp.maximum(lengths - count, 1)).astype(jnp.int32)
            begin, count = (jnp.take_along_axis(x, slot, axis=-1) for x in (begin, count))
            inside = (batch["position_ids"] >= begin) & (batch["position_ids"] < begin + count)
            keep &= ~inside
        keep |= ~jnp.take_along_axis(changed, slot, axis=-1)
        new[TOKENS] = keep.astype(jnp.float32)
        if self.features:
            shape = (*example.shape, self.width)
            number = jax.lax.broadcasted_iota(jnp.int32, shape, example.ndim) + _COUNTER + 1
            order, _ = example_bits(key, jnp.broadcast_to(example[..., None], shape), number)
            count = int(self.features * self.width)
            new[FEATURES] = ((order >= jnp.sort(order, axis=-1)[..., count : count + 1]) | ~changed[..., None]).astype(
                jnp.float32
            )
        return new


def cut(words: Array, batch: Batch, key: Array) -> Array:
    """The word embeddings [R, T, D] of a micro-batch, 0 where the batch says so."""
    words = words * batch[TOKENS].astype(words.dtype)[..., None]
    if FEATURES in batch:
        slot = jnp.maximum(batch["segment_ids"] - 1, 0)
        words *= jnp.take_along_axis(batch[FEATURES], slot[..., None], axis=1).astype(words.dtype)
    return words


def _count(lengths: Array, rate: float) -> Array:
    """The number of tokens to cut of examples of some lengths, never the first one."""
    return jnp.minimum(jnp.maximum(jnp.floor(rate * lengths + 1e-6).astype(jnp.int32), 1), jnp.maximum(lengths - 1, 0))


def _uniform(bits: Array) -> Array:
    """Floats in [0, 1) of random bits; 24 of them, so that no float rounds up to 1."""
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2**-24)
