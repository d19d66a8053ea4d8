"""Perturbations of word embeddings: their norms per text, balls, steps and random starts, wherever the layout puts a text.

A perturbation is float32 [R, T, E], 0 at padding. A text is a sequence of a packed row: `segment_ids` says whose a token is.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p

from jaxft.core.example_bits import example_bits, uniform
from jaxft.step.regularization import sequence_lengths

Array = jax.Array
Batch = dict[str, Array]
Norm = Literal["l2", "linf"]
PERTURBATION = "word_perturbation"  # what training adds to the word embeddings of a micro-batch: [R, T, E]
SEEDS = "perturbation_seeds"  # two uint32 for each text of a step: [K, R, M, 2]
_COUNTER = 1 << 29  # of the numbers that are drawn for a text; cut-off uses others of this key


def with_seeds(batch: Batch, key: Array) -> Batch:
    """The batch of a whole step with SEEDS, which belong to the texts and not to their places.

    Args:
      batch: `example` [K, R, N] and `first_token` [K, R, M]; the M / N texts of an example follow one another.
      key: of the step.
    """
    texts = batch["first_token"].shape[-1] // batch["example"].shape[-1]
    example = jnp.repeat(batch["example"], texts, axis=-1)
    number = jax.lax.broadcasted_iota(jnp.int32, example.shape, example.ndim - 1) % texts
    return batch | {SEEDS: jnp.stack(example_bits(key, example, _COUNTER + number), axis=-1)}


@dataclass(frozen=True)
class Perturbation:
    """How perturbations of a micro-batch are measured and drawn.

    Attributes:
      batch: `segment_ids`, `position_ids` [R, T], `first_token` [R, M], and SEEDS [R, M, 2] for random ones.
      width: of word embeddings, E.
      norm: over all numbers of a text: l2, or linf, the largest absolute number.
      epsilon: largest norm; None is no limit.
    """

    batch: Batch
    width: int
    norm: Norm = "l2"
    epsilon: float | None = None

    @property
    def slots(self) -> int:
        """The number of texts for which a row has room."""
        return self.batch["first_token"].shape[1]

    def zeros(self) -> Array:
        """No perturbation."""
        return jnp.zeros((*self.batch["segment_ids"].shape, self.width), jnp.float32)

    def of_tokens(self, values: Array) -> Array:
        """The value of each token's text, [R, T], of values [R, M]; any value at padding."""
        return jnp.take_along_axis(values, jnp.maximum(self.batch["segment_ids"] - 1, 0), axis=1)

    def norms(self, x: Array) -> Array:
        """The norms of the texts' parts of an array [R, T, E], at each of their tokens, [R, T, 1]."""
        # Divided by the largest number first: squares of small gradients would be 0 in float32.
        largest = self._largest(jnp.abs(x).max(-1))
        if self.norm == "linf":
            return largest[..., None]
        scaled = x / jnp.where(largest > 0, largest, 1.0)[..., None]
        sums = (self._own * jnp.square(scaled).sum(-1)[:, None]).sum(-1)
        return (largest * jnp.sqrt(self.of_tokens(sums)))[..., None]

    def _largest(self, values: Array) -> Array:
        return self.of_tokens(jnp.where(self._own, values[:, None], 0.0).max(-1))

    @property
    def _own(self) -> Array:
        """Which tokens a text has: bool [R, M, T]."""
        return self.batch["segment_ids"][:, None] == jnp.arange(1, self.slots + 1).reshape(1, -1, 1)

    def masked(self, x: Array) -> Array:
        """The array with 0 at padding."""
        return jnp.where((self.batch["segment_ids"] > 0)[..., None], x, 0.0)

    def direction(self, gradient: Array) -> Array:
        """The gradient with norm 1 for each text; a text without gradient has no direction and gets 0."""
        gradient = self.masked(gradient)
        norms = self.norms(gradient)
        return gradient / jnp.where(norms > 0, norms, 1.0)

    def projected(self, x: Array) -> Array:
        """The nearest perturbation whose norms are at most epsilon."""
        if self.epsilon is None:
            return x
        if self.norm == "linf":
            return jnp.clip(x, -self.epsilon, self.epsilon)
        norms = self.norms(x)
        return x * jnp.where(norms > self.epsilon, self.epsilon / jnp.where(norms > 0, norms, 1.0), 1.0)

    def uniform(self, size: float) -> Array:
        """Uniform numbers whose norm is at most `size` (FreeLB: size / sqrt(tokens x width) for l2)."""
        noise = self.masked(2 * self._draws() - 1) * size
        if self.norm == "linf":
            return noise
        lengths = self.of_tokens(sequence_lengths(self.batch["segment_ids"], self.slots))
        return noise / jnp.sqrt(jnp.maximum(lengths, 1).astype(jnp.float32) * self.width)[..., None]

    def normal(self) -> Array:
        """Standard normal numbers."""
        return self.masked(jnp.sqrt(2.0) * jax.scipy.special.erfinv(2 * self._draws() - 1))

    def _draws(self) -> Array:
        """Uniform numbers between 0 and 1, exclusive, of the seeds of the texts and the positions in them."""
        slot = jnp.maximum(self.batch["segment_ids"] - 1, 0)[..., None]
        seeds = jnp.take_along_axis(self.batch[SEEDS], slot, axis=1)  # [R, T, 2]
        shape = (*slot.shape[:2], -(-self.width // 2))
        number = jax.lax.broadcasted_iota(jnp.uint32, shape, 2)
        position = jnp.broadcast_to(self.batch["position_ids"].astype(jnp.uint32)[..., None], shape)
        bits = threefry2x32_p.bind(*(jnp.broadcast_to(seeds[..., i : i + 1], shape) for i in (0, 1)), position, number)
        return uniform(jnp.concatenate(bits, axis=-1)[..., : self.width])
