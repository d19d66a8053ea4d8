"""Losses as (sum, weight): divided once, after micro-batches and devices, so that no mean of means is ever taken."""

import jax
import jax.numpy as jnp

Array = jax.Array
WeightedSum = tuple[Array, Array]
LOWEST = -1e30  # the logit of what is not to be chosen; finite, so that a slot with nothing to choose gives no NaN


def cross_entropy(
    logits: Array, labels: Array, weights: Array, label_smoothing: float = 0.0, class_weights: Array | None = None
) -> WeightedSum:
    """Softmax cross-entropy with label smoothing and class weights as in torch.nn.CrossEntropyLoss.

    Args:
      logits: [..., C] float32.
      labels: [...] int; only read where the weight is not 0.
      weights: [...] float32; 0 for empty slots.
      label_smoothing: probability spread evenly over all C classes.
      class_weights: [C] float32; the weight of an example is then also that of its label.
    """
    logs = jax.nn.log_softmax(logits, axis=-1)
    weight = weights
    if class_weights is not None:
        weight = weights * jnp.take(class_weights, labels, mode="clip")
        # Not `loss * weight`, since the part of the loss that smoothing adds has the weights of its own classes.
        logs = logs * class_weights.reshape((1,) * (logs.ndim - 1) + class_weights.shape)
    loss = -jnp.take_along_axis(logs, labels[..., None], axis=-1, mode="clip")[..., 0]
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * logs.mean(-1)
    return (loss * weights).sum(), weight.sum()


def soft_cross_entropy(logits: Array, teacher_logits: Array, weights: Array, temperature: float) -> WeightedSum:
    """Cross-entropy against a teacher's softmax, both at a temperature, times its square (Hinton et al. 2015).

    The square keeps the gradient's size comparable to the hard loss's at any temperature.

    Args:
      logits, teacher_logits: [..., C] float32; no gradient flows into the teacher's.
      weights: [...] float32.
      temperature: above 0.
    """
    target = jax.nn.softmax(jax.lax.stop_gradient(teacher_logits) / temperature, axis=-1)
    logs = jax.nn.log_softmax(logits / temperature, axis=-1)
    loss = -(target * logs).sum(-1) * temperature**2
    return (loss * weights).sum(), weights.sum()


def own_tokens(logits: Array, segment_ids: Array, slots: int) -> Array:
    """The logits of each sequence's tokens for itself, LOWEST for all other tokens of its row.

    A softmax over the last axis is then over the sequence's own tokens, as if it lay alone in its row; an empty slot has
    LOWEST everywhere. It takes M / D of the memory of the hidden states [R, T, D].

    Args:
      logits: a number a token [R, T], float32.
      segment_ids: int32 [R, T], from 1 (0 for padding).
      slots: M, sequences a row at most.

    Returns:
      float32 [R, M, T].
    """
    mine = segment_ids[:, None] == jnp.arange(1, slots + 1)[None, :, None]
    return jnp.where(mine, logits[:, None], LOWEST)


def mix(hard: WeightedSum, soft: WeightedSum, alpha: float) -> WeightedSum:
    """(1 - alpha) hard + alpha soft; both have the same weight."""
    return (1 - alpha) * hard[0] + alpha * soft[0], hard[1]
