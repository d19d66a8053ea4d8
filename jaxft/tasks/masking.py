"""Dynamic masking on the device: choose the tokens of a batch that are predicted, and what replaces them.

The masks depend on the step's key, the example's number and the position in the example, never on where the layout puts the
example: the random bits are threefry's, with (example, position) as the counter.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxft.core.example_bits import example_bits

Array = jax.Array
Batch = dict[str, Array]
MASKED, REPLACED = 0.8, 0.1  # shares of the chosen tokens; the rest are unchanged (Devlin et al. 2019)
_ONE = 1 << 16  # shares are in units of 1 / _ONE, so that all programs round alike


@dataclass(frozen=True)
class Masking:
    """Masking for masked language modelling.

    Attributes:
      rate: the share of an example's tokens to predict, 0 to 1.
      mask_id: the id of the mask token.
      vocabulary: the number of tokens.
      special: ids that never replace a token.
    """

    rate: float
    mask_id: int
    vocabulary: int
    special: tuple[int, ...] = ()

    def max_predictions(self, length: int, slots: int) -> int:
        """The maximum number of predictions in a row of `length` tokens and `slots` examples; no draw exceeds it."""
        return min(length, self._share * length // _ONE + slots)

    @property
    def _share(self) -> int:
        return max(1, round(self.rate * _ONE))

    def __call__(self, batch: Batch, key: Array) -> Batch:
        """Mask a batch.

        Args:
          batch: [K, R, T] `input_ids`, `segment_ids`, `position_ids` and `words` (the position of the first piece of the
            word that a token belongs to, counted from 1; tokens with 0 are never masked); [K, R, M] `example`.
          key: the key of the step.

        Returns:
          The batch with masked `input_ids` and, with P = `max_predictions(T, M)`, [K, R, P] `token_positions` int32
          (positions in the row), `targets` int32 (the original ids) and `token_weights` float32 (0 for unused positions).
        """
        (order, action), (rounding, word) = _random(batch, key)
        positions, used = self._choose(batch, order, rounding)
        ids, action, word = (jnp.take_along_axis(x, positions, axis=-1) for x in (batch["input_ids"], action, word))
        share = action >> 16
        new = jnp.where(share < round((MASKED + REPLACED) * _ONE), self._any_word(word), ids)
        new = jnp.where(share < round(MASKED * _ONE), self.mask_id, new)
        new = jnp.where(used, new, ids)
        return batch | {
            "input_ids": jnp.put_along_axis(batch["input_ids"], positions, new, axis=-1, inplace=False),
            "token_positions": positions,
            "targets": ids,
            "token_weights": used.astype(jnp.float32),
        }

    def _choose(self, batch: Batch, order: Array, rounding: Array) -> tuple[Array, Array]:
        """Choose positions in rows, [K, R, P], and whether each is used, from random bits [K, R, T] shared within words.

        An example's words are put into a random order and chosen until the example's share of tokens is reached; words that
        would exceed it are skipped. The share is rounded up or down at random, so that the rate is right on average and the
        number of positions has a fixed bound.
        """
        words, (length, slots) = batch["words"], (batch["words"].shape[-1], batch["example"].shape[-1])
        slot = jnp.where(words > 0, batch["segment_ids"], slots + 1)
        index = jax.lax.broadcasted_iota(jnp.int32, words.shape, words.ndim - 1)
        # Pieces of a word share its number, so they stay together; slot `slots + 1` holds what is never masked.
        slot, _, word, index, rounding = jax.lax.sort((slot, order, words, index, rounding), num_keys=3)
        rank = jax.lax.broadcasted_iota(jnp.int32, words.shape, words.ndim - 1)
        new_slot = _differs(slot)
        begin = jax.lax.cummax(jnp.where(new_slot, rank, 0), axis=rank.ndim - 1)
        tokens = _last(new_slot, rank) - begin + 1
        word_end = _last(new_slot | _differs(word), rank) - begin + 1
        rounding = jnp.take_along_axis(rounding >> 16, begin, axis=-1)  # one for each example
        quota = (tokens.astype(jnp.uint32) * self._share + rounding) >> 16
        chosen = (slot <= slots) & (word_end.astype(jnp.uint32) <= quota)
        # Chosen positions first, in the order of the row.
        index = jnp.sort(jnp.where(chosen, index, index + length), axis=-1)[..., : self.max_predictions(length, slots)]
        return index % length, index < length

    def _any_word(self, bits: Array) -> Array:
        """Random token ids that are not special, from 32 random bits each; the shape is that of `bits`."""
        special = sorted(i for i in set(self.special) if i < self.vocabulary)
        word = (bits % (self.vocabulary - len(special))).astype(jnp.int32)
        for i in special:
            word = word + (word >= i)
        return word


def _random(batch: Batch, key: Array) -> tuple[Array, Array]:
    """Two pairs of random bits for each token, [2, K, R, T] each; within the first, pieces of a word share theirs."""
    slot = jnp.maximum(batch["segment_ids"] - 1, 0)
    example = jnp.take_along_axis(batch["example"], slot, axis=-1)
    counters = jnp.stack([batch["words"], batch["position_ids"]]).astype(jnp.uint32)
    counters = counters + jnp.array([0, 1 << 31], jnp.uint32).reshape(2, *[1] * slot.ndim)
    return example_bits(key, jnp.broadcast_to(example[None], counters.shape), counters)


def _differs(x: Array) -> Array:
    """Whether each element differs from the one before it along the last axis; True for the first."""
    changes = x[..., 1:] != x[..., :-1]
    return jnp.concatenate([jnp.ones_like(changes[..., :1]), changes], axis=-1)


def _last(first: Array, rank: Array) -> Array:
    """The rank of the last element of each group; `first` marks where groups begin."""
    size = rank.shape[-1]
    next_begins = jnp.concatenate([first[..., 1:], jnp.ones_like(first[..., :1])], axis=-1)
    return jax.lax.cummin(jnp.where(next_begins, rank, size), axis=rank.ndim - 1, reverse=True)
