"""Metrics: counts that merge by addition while evaluation goes on, scores by scikit-learn at its end.

A confusion matrix holds all that accuracy, F1 and MCC need, in memory that does not grow with the number of examples.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

HIGHER_IS_BETTER = {"accuracy": True, "f1": True, "macro_f1": True, "micro_f1": True, "mcc": True, "loss": False}


@dataclass
class ClassificationCounts:
    """Confusion matrix [gold, predicted] and the loss as (sum, weight)."""

    confusion: np.ndarray
    loss_sum: float = 0.0
    weight: float = 0.0

    @classmethod
    def empty(cls, num_labels: int) -> "ClassificationCounts":
        """Nothing counted yet."""
        return cls(np.zeros((num_labels, num_labels), np.int64))

    def add(self, gold: np.ndarray, predicted: np.ndarray, loss_sum: float, weight: float) -> None:
        """Count a batch of int labels, any shape."""
        np.add.at(self.confusion, (gold.ravel(), predicted.ravel()), 1)
        self.loss_sum += loss_sum
        self.weight += weight

    def scores(self) -> dict[str, float]:
        """All metrics; `f1` (of label 1) only where there are two labels.

        As scikit-learn does by default, `macro_f1` averages over the labels that gold or predictions have.
        """
        from sklearn import metrics

        n = len(self.confusion)
        gold, predicted = (axis.ravel() for axis in np.indices((n, n)))
        # Empty cells stay in, with weight 0: scikit-learn then knows every label and has nothing to warn of.
        arguments = {"y_true": gold, "y_pred": predicted, "sample_weight": self.confusion.ravel()}
        present = np.flatnonzero(self.confusion.sum(0) + self.confusion.sum(1))
        f1: dict[str, Any] = {"zero_division": 0.0, "labels": present}
        scores = {
            "loss": self.loss_sum / max(self.weight, 1.0),
            "accuracy": metrics.accuracy_score(**arguments),
            "macro_f1": metrics.f1_score(**arguments, **f1, average="macro"),
            "micro_f1": metrics.f1_score(**arguments, **f1, average="micro"),
            "mcc": metrics.matthews_corrcoef(**arguments),
        }
        if n == 2:
            scores["f1"] = metrics.f1_score(**arguments, zero_division=f1["zero_division"], pos_label=1)
        return {name: float(value) for name, value in scores.items()}
