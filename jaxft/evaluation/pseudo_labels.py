"""Pseudo-labels: which predictions for texts without labels are taken as labels (Lee 2013; Yarowsky 1995)."""

import numpy as np


def choose(probabilities: np.ndarray, threshold: float, most_per_class: int | None = None) -> np.ndarray:
    """Indices, ascending, of the rows whose most probable label is taken.

    Args:
      probabilities: float [N, labels].
      threshold: smallest probability of that label.
      most_per_class: how many rows are taken of each label at most, the most probable first, then the first ones.

    Returns:
      int [rows taken].
    """
    best = probabilities.argmax(1)
    score = probabilities[np.arange(len(best)), best]
    order = np.lexsort((-score, best))  # stable: by label, then by probability
    order = order[score[order] >= threshold]
    if most_per_class is not None:
        _, first = np.unique(best[order], return_index=True)
        rank = np.arange(len(order)) - np.repeat(first, np.diff([*first, len(order)]))
        order = order[rank < most_per_class]
    return np.sort(order)
