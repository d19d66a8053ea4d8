"""Mixup of hidden states: manifold mixup (Verma et al. 2019, arXiv:1806.05236), TMix (Chen et al. 2020, arXiv:2004.12239).

Two examples are a pair: they are neighbours in a row of the batch, whatever the layout (`Examples.group` is 2). Up to layer
m each is computed alone; then the hidden state of each token becomes

    lambda * (own state) + (1 - lambda) * (state of the token at the same position of the other example)

and the layers above compute the mixture. Its loss is lambda * (loss against the own labels) + (1 - lambda) * (loss against
the other's). A token at whose position the other example has none stays as it is. Both examples of a pair are mixed, with
one lambda and one m, which come with the data (`data/augmentation/pairs`), so that they do not depend on the layout.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.data.augmentation.pairs import LAYER, RATIO
from jaxft.losses import WeightedSum

Array = jax.Array
Batch = dict[str, Array]


class Mixup:
    """The mixing of one micro-batch, from the arrays that `pairs.split_pairs` gave.

    Args of the constructor:
      batch: `segment_ids`, `position_ids` [R, T]; `first_token`, RATIO, LAYER [R, M], two neighbouring slots per pair.
    """

    def __init__(self, batch: Batch) -> None:
        segments = batch["segment_ids"]
        slot = jnp.maximum(segments - 1, 0)
        other = jnp.bitwise_xor(slot, 1)  # slots are pairs (0, 1), (2, 3) ...
        index = jnp.take_along_axis(batch["first_token"], other, axis=1) + batch["position_ids"]
        inside = jnp.minimum(index, segments.shape[1] - 1)
        exists = (index == inside) & (segments > 0) & (jnp.take_along_axis(segments, inside, axis=1) == other + 1)
        self._index = jnp.where(exists, inside, jax.lax.broadcasted_iota(jnp.int32, segments.shape, 1))
        self._ratio = jnp.where(exists, jnp.take_along_axis(batch[RATIO], slot, axis=1), 1.0)
        self._layer = jnp.take_along_axis(batch[LAYER], slot, axis=1)
        self._batch = batch

    def between(self, x: Array, layer: Any) -> Array:
        """Mix the hidden states [R, T, D] of the pairs whose m is `layer`."""
        ratio = jnp.where(self._layer == layer, self._ratio, 1.0).astype(x.dtype)[..., None]
        other = jnp.take_along_axis(x, self._index[..., None], axis=1)
        return ratio * x + (1 - ratio) * other

    def loss(self, loss: Callable[[Batch], WeightedSum], tokens: bool) -> WeightedSum:
        """The loss of the mixture, from a task's loss of a batch, which multiplies the cost of each example by `weights`
        [R, M], and of each labelled token by `token_weights` [R, T]. `tokens` says whether `labels` are those of tokens,
        [R, T] with 0 for none, or of examples, [R, M, ...].
        """
        batch = self._batch
        swap = jnp.bitwise_xor(jnp.arange(batch[RATIO].shape[1]), 1)
        ratio = jnp.where(batch["weights"][:, swap] > 0, batch[RATIO], 1.0)
        labels = batch["labels"]
        others = jnp.take_along_axis(labels, self._index, axis=1) if tokens else labels[:, swap]

        def part(labels: Array, ratio: Array, token_ratio: Array) -> WeightedSum:
            return loss(batch | {"labels": labels, "weights": batch["weights"] * ratio, "token_weights": token_ratio})

        own, other = part(labels, ratio, self._ratio), part(others, 1 - ratio, 1 - self._ratio)
        return own[0] + other[0], own[1] + other[1]
