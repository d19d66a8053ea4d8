"""Batches of pairs of examples (`data/augmentation/pairs`) as batches of single examples, in neighbouring slots."""

import jax
import jax.numpy as jnp

from jaxft.data.augmentation.pairs import LABELLED, PER_PAIR, PRESENT

Array = jax.Array
Batch = dict[str, Array]
COUNTS = "counts"  # float32 [K, 2]: labelled examples, and pairs of texts without labels, of the whole step


def split_pairs(batch: Batch) -> Batch:
    """The batch of a step as one of single examples.

    Args:
      batch: [K, R, ...] arrays with M slots for pairs: `first_token` [K, R, 2 M], columns of examples [K, R, M, 2, ...].

    Returns:
      The batch with 2 M slots. `weights` are 0 where a pair has no second example; values of pairs are repeated.
    """
    slots = batch["weights"].shape
    columns = [name for name, x in batch.items() if x.shape[:4] == (*slots, 2)]
    single = {name: batch[name].reshape(*slots[:2], -1, *batch[name].shape[4:]) for name in columns}
    pair = {name: jnp.repeat(batch[name], 2, axis=2) for name in ("weights", "example", *PER_PAIR) if name in batch}
    second = jax.lax.broadcasted_iota(jnp.int32, pair["example"].shape, 2) % 2
    new = batch | single | pair
    new["example"] = jnp.where(pair["example"] < 0, -1, 2 * pair["example"] + second)
    new["weights"] = pair["weights"] * new.pop(PRESENT)
    # A missing second example begins where the first ends, which is outside a full row: a read there would give NaN.
    new["first_token"] = jnp.where(new["weights"] > 0, batch["first_token"], 0)
    if LABELLED in new:
        counts = jnp.stack(
            [(new["weights"] * new[LABELLED]).sum(), (batch["weights"] * (1 - new[LABELLED][..., ::2])).sum()]
        )
        new[COUNTS] = jnp.tile(counts[None], (slots[0], 1))
    return new
