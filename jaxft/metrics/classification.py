"""Scores of classifiers by scikit-learn, from a confusion matrix."""

from typing import Any

import numpy as np


def classification_scores(confusion: np.ndarray) -> dict[str, float]:
    """Accuracy, F1 and MCC; `f1` (of label 1) only where there are two labels.

    As scikit-learn does by default, `macro_f1` averages over the labels that gold or predictions have.

    Args:
      confusion: int [gold, predicted].
    """
    from sklearn import metrics

    n = len(confusion)
    gold, predicted = (axis.ravel() for axis in np.indices((n, n)))
    # Empty cells stay in, with weight 0: scikit-learn then knows every label and has nothing to warn of.
    arguments = {"y_true": gold, "y_pred": predicted, "sample_weight": confusion.ravel()}
    present = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
    f1: dict[str, Any] = {"zero_division": 0.0, "labels": present}
    scores = {
        "accuracy": metrics.accuracy_score(**arguments),
        "macro_f1": metrics.f1_score(**arguments, **f1, average="macro"),
        "micro_f1": metrics.f1_score(**arguments, **f1, average="micro"),
        "mcc": metrics.matthews_corrcoef(**arguments),
    }
    if n == 2:
        scores["f1"] = metrics.f1_score(**arguments, zero_division=f1["zero_division"], pos_label=1)
    return {name: float(value) for name, value in scores.items()}
