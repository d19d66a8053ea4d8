"""Losses as (sum, weight): divided once, after micro-batches and devices are summed, so there is never a mean of means.

Logits are [..., C] float32, with the C classes, labels or targets last; weights are [...] float32, 0 for empty slots.
"""

from jaxft.losses.labelled import (
    LOWEST,
    WeightedSum,
    cross_entropy,
    logits_per_sequence,
    sigmoid_cross_entropy,
    squared_error,
    sum_by_text,
    with_weight,
)
from jaxft.losses.soft import OutputPair, kl_divergence, soft_cross_entropy

__all__ = [
    "LOWEST",
    "OutputPair",
    "WeightedSum",
    "cross_entropy",
    "kl_divergence",
    "logits_per_sequence",
    "sigmoid_cross_entropy",
    "soft_cross_entropy",
    "squared_error",
    "sum_by_text",
    "with_weight",
]
