"""Scores of classifiers by scikit-learn: from a confusion matrix, or from what each example was given."""

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


def roc_auc(gold: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve, the mean over the labels for which it is defined: those that some rows have and some not.

    Where there is no such label it is 0.5, as for scores that tell nothing.

    Args:
      gold: bool [N, C], or [N] for one label.
      scores: [N, C] or [N], higher for likelier.
    """
    from sklearn import metrics

    gold, scores = gold.reshape(len(gold), -1), scores.reshape(len(scores), -1)
    defined = gold.any(0) & ~gold.all(0)
    areas = [metrics.roc_auc_score(gold[:, c], scores[:, c]) for c in np.flatnonzero(defined)]
    return float(np.mean(areas)) if areas else 0.5


def multi_label_scores(gold: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, Any]:
    """Micro and macro F1, share of rows whose labels are all right, ROC AUC; tables of 2 x 2 counts by label.

    Args:
      gold: bool [N, C].
      scores: probabilities [N, C]; a label is given from `threshold` on.
    """
    from sklearn import metrics

    predicted = scores >= threshold
    counts = metrics.multilabel_confusion_matrix(gold, predicted)
    f1 = {"y_true": gold, "y_pred": predicted, "zero_division": 0.0}
    return {
        "micro_f1": float(metrics.f1_score(**f1, average="micro")),
        "macro_f1": float(metrics.f1_score(**f1, average="macro")),
        "subset_accuracy": float(metrics.accuracy_score(gold, predicted)),
        "roc_auc": roc_auc(gold, scores),
        "confusion": counts.tolist(),
    }


def best_threshold(gold: np.ndarray, scores: np.ndarray) -> float:
    """The threshold with the best micro F1, midway between two scores; the highest of several, 0.5 without any label.

    Args:
      gold: bool [N, C].
      scores: probabilities [N, C].
    """
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked, right = scores.ravel()[order], np.cumsum(gold.ravel()[order])
    if not right[-1]:
        return 0.5
    f1 = 2 * right / (np.arange(1, len(right) + 1) + right[-1])
    below = np.append(ranked[1:], 0.0)
    parted = ranked > below  # equal scores cannot be
    parted[-1] = True
    best = int(np.argmax(np.where(parted, f1, -1.0)))
    middle = float(ranked[best] + below[best]) / 2
    return middle if middle > below[best] else float(ranked[best])  # between neighbouring floats is nothing
