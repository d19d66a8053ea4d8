"""Losses against labels.

Logits are [..., C] float32, with the C classes, labels or targets last; weights are [...] float32, 0 for empty slots.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

Array = jax.Array
WeightedSum = tuple[Array, Array]
LOWEST = -1e30  # the logit of what must not be chosen; finite, so that a softmax over nothing else is not NaN


def with_weight(loss: WeightedSum, weight: Array) -> WeightedSum:
    """A loss with the same mean and another weight; 0 if its own weight is 0."""
    total, own = loss
    return total * jnp.where(own > 0, weight / jnp.where(own > 0, own, 1.0), 0.0), weight


def cross_entropy(
    logits: Array,
    labels: Array,
    weights: Array,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    focal_gamma: float = 0.0,
) -> WeightedSum:
    """Softmax cross-entropy with smoothing and class weights as in torch.nn.CrossEntropyLoss, or the focal loss.

    With class weights the mean is weighted by the class weight of each example's label. The focal loss (Lin et al. 2017,
    arXiv:1708.02002) multiplies the cost of every class by (1 - its probability) ** gamma.

    Args:
      logits, weights: [..., C] and [...].
      labels: [...] int; ignored where the weight is 0.
      label_smoothing: probability spread evenly over all C classes.
      class_weights: C numbers; None is all ones.
      focal_gamma: 0 or more.
    """
    costs = -jax.nn.log_softmax(logits, axis=-1)
    if focal_gamma:  # the lower bound keeps the gradient finite at probability 1 if gamma is below 1
        costs *= jnp.maximum(-jnp.expm1(-costs), jnp.finfo(costs.dtype).tiny) ** focal_gamma
    total = weights
    if class_weights is not None:
        rescale = jnp.asarray(class_weights, costs.dtype)
        costs *= rescale.reshape((1,) * (costs.ndim - 1) + rescale.shape)
        total = weights * jnp.take(rescale, labels, mode="clip")
    loss = jnp.take_along_axis(costs, labels[..., None], axis=-1, mode="clip")[..., 0]
    if label_smoothing:
        loss = (1 - label_smoothing) * loss + label_smoothing * costs.mean(-1)
    return (loss * weights).sum(), total.sum()


def sigmoid_cross_entropy(
    logits: Array, targets: Array, weights: Array, positive_weights: Sequence[float] | None = None, focal_gamma: float = 0.0
) -> WeightedSum:
    """Sigmoid cross-entropy, averaged over C labels, as in torch.nn.BCEWithLogitsLoss, or the focal loss.

    Args:
      logits, weights: [..., C] and [...].
      targets: [..., C] 0 or 1, or probabilities.
      positive_weights: C numbers, torch's `pos_weight`; None is all ones.
      focal_gamma: as in `cross_entropy`, for each label as a binary decision (Lin et al. 2017).
    """
    yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    cost_yes, cost_no = -yes, -no
    if focal_gamma:
        cost_yes, cost_no = cost_yes * jnp.exp(focal_gamma * no), cost_no * jnp.exp(focal_gamma * yes)
    if positive_weights is not None:
        rescale = jnp.asarray(positive_weights, logits.dtype)
        cost_yes *= rescale.reshape((1,) * (logits.ndim - 1) + rescale.shape)
    targets = targets.astype(logits.dtype)
    loss = (targets * cost_yes + (1 - targets) * cost_no).mean(-1)
    return (loss * weights).sum(), weights.sum()


def squared_error(predictions: Array, targets: Array, weights: Array) -> WeightedSum:
    """Squared error of predictions [..., C], averaged over the C targets, as in torch.nn.MSELoss."""
    return (jnp.square(predictions - targets).mean(-1) * weights).sum(), weights.sum()


def sum_by_text(values: Array, segment_ids: Array, slots: int) -> Array:
    """The sums over the texts of packed rows: [R, T] numbers with int32 [R, T] `segment_ids`, from 1, to [R, slots]."""
    member = segment_ids[:, None] == jnp.arange(1, slots + 1)[None, :, None]
    return jnp.where(member, values[:, None], 0.0).sum(-1)


def logits_per_sequence(logits: Array, segment_ids: Array, slots: int) -> Array:
    """For each sequence of a packed row, the logits of its tokens, and LOWEST at all other tokens of the row.

    A softmax over the last axis is then over the sequence's own tokens, as if it were alone in its row; an empty slot has
    LOWEST everywhere. The result takes M / D of the memory of the hidden states [R, T, D].

    Args:
      logits: one number per token, [R, T].
      segment_ids: int32 [R, T], from 1 (0 for padding).
      slots: M, the maximum number of sequences per row.

    Returns:
      [R, M, T].
    """
    member = segment_ids[:, None] == jnp.arange(1, slots + 1)[None, :, None]
    return jnp.where(member, logits[:, None], LOWEST)
