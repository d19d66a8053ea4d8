"""Tasks with several texts in an example (the choices of multiple choice) beside tasks with one.

In a batch of several tasks, every example has room for as many texts as that task has which has most; those that an example
lacks are empty. A task sees only its own texts, numbered as if there were no others.
"""

import jax
import jax.numpy as jnp

Array = jax.Array
Batch = dict[str, Array]


def without_empty(batch: Batch, counts: Array, texts: int) -> Batch:
    """The batch in which empty texts begin at 0: where they begin may be outside the row, and a read there would give NaN.

    Args:
      batch: `first_token` [K, R, M * texts].
      counts: int32 [K, R, M], the texts that each example has.
      texts: the most that an example may have.
    """
    if texts == 1:
        return batch
    first = batch["first_token"].reshape(*counts.shape, texts)
    number = jax.lax.broadcasted_iota(jnp.int32, first.shape, first.ndim - 1)
    first = jnp.where(number < counts[..., None], first, 0)
    return batch | {"first_token": first.reshape(*counts.shape[:-1], -1)}


def own_texts(batch: Batch, own: int, texts: int) -> Batch:
    """`first_token` [..., M * own] and `segment_ids` [..., T] of a task whose examples have `own` of `texts` texts.

    Tokens of examples of other tasks may get any number: their weights are 0.
    """
    if texts == own:
        return {}
    first, segments = batch["first_token"], batch["segment_ids"]
    rows = first.shape[:-1]
    first = first.reshape(*rows, -1, texts)[..., :own].reshape(*rows, -1)
    number = jnp.maximum(segments - 1, 0)
    renumbered = number // texts * own + jnp.minimum(number % texts, own - 1) + 1
    return {"first_token": first, "segment_ids": jnp.where(segments > 0, renumbered, 0)}


def among_all(weights: Array, own: int, texts: int) -> Array:
    """The weights of a task's texts, [..., M * own], as those of all texts, [..., M * texts]."""
    if texts == own:
        return weights
    rows = weights.shape[:-1]
    by_example = weights.reshape(*rows, -1, own)
    padded = jnp.pad(by_example, [*[(0, 0)] * (by_example.ndim - 1), (0, texts - own)])
    return padded.reshape(*rows, -1)
