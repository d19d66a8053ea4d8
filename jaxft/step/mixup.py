"""Mixup of hidden states: manifold mixup (Verma et al. 2019, arXiv:1806.05236), TMix (Chen et al. 2020, arXiv:2004.12239).

Two examples are a pair: they are neighbours in a row of the batch, whatever the layout (`Examples.group` is 2). Up to layer
m each is computed alone; then the hidden state of each token becomes

    lambda * (own state) + (1 - lambda) * (state of the token at the same position of the other example)

and the layers above compute the mixture. Its loss is lambda * (loss against the own labels) + (1 - lambda) * (loss against
the other's). A token at whose position the other example has none stays as it is. Both examples of a pair are mixed, with
one lambda and one m, which the data brings (`data/augmentation/pairs`), so that they do not depend on the layout.
"""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.data.augmentation.pairs import LAYER, PRESENT, RATIO
from jaxft.losses import WeightedSum

Array = jax.Array
Batch = dict[str, Array]


def split_pairs(batch: Batch, columns: Collection[str]) -> Batch:
    """The batch of pairs as one of single examples.

    Args:
      batch: [K, R, ...] arrays of pairs: M slots, `first_token` [K, R, 2 M].
      columns: names of the columns [K, R, M, 2, ...] that hold a value for each example of a pair.

    Returns:
      The batch with 2 M slots. `weights` are 0 where a pair has no second example; RATIO and LAYER are repeated.
    """
    single = {name: batch[name].reshape(*batch[name].shape[:2], -1, *batch[name].shape[4:]) for name in (*columns, PRESENT)}
    pair = {name: jnp.repeat(batch[name], 2, axis=2) for name in ("weights", "example", RATIO, LAYER)}
    second = jax.lax.broadcasted_iota(jnp.int32, pair["example"].shape, 2) % 2
    new = batch | single | pair
    new["example"] = jnp.where(pair["example"] < 0, -1, 2 * pair["example"] + second)
    new["weights"] = pair["weights"] * new.pop(PRESENT)
    return new


class Mixup:
    """The mixing of one micro-batch, from the arrays that `split_pairs` gave.

    Args of the constructor:
      batch: `segment_ids`, `position_ids` [R, T]; `first_token`, RATIO, LAYER [R, M], two neighbouring slots a pair.
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

    def loss(self, loss: Callable[[Batch], WeightedSum], columns: Collection[str], tokens: Collection[str]) -> WeightedSum:
        """The loss of the mixture.

        Args:
          loss: a task's loss of a batch; it multiplies examples by `weights` [R, M] and labelled tokens by `token_weights`
            [R, T] if there are any.
          columns: names of the labels of examples, [R, M, ...].
          tokens: names of the labels of tokens, [R, T]; 0 has none.
        """
        batch, ratio = self._batch, self._batch[RATIO]
        swap = jnp.bitwise_xor(jnp.arange(ratio.shape[1]), 1)
        present = batch["weights"][:, swap] > 0
        ratio = jnp.where(present, ratio, 1.0)
        own = loss(batch | {"weights": batch["weights"] * ratio, "token_weights": self._ratio})
        labels = {name: batch[name][:, swap] for name in columns}
        labels |= {name: jnp.take_along_axis(batch[name], self._index, axis=1) for name in tokens}
        other = loss(batch | labels | {"weights": batch["weights"] * (1 - ratio), "token_weights": 1 - self._ratio})
        return own[0] + other[0], own[1] + other[1]
