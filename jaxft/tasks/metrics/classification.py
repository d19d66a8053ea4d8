"""Scores of classifiers, computed by scikit-learn from counts or from the scores of each example."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

MAX_TABLE_LABELS = 64  # with at most this many labels, tables are complete
MAX_MISTAKES = 100  # shown with more labels


@dataclass(frozen=True)
class SparseConfusion:
    """The nonzero cells of a confusion matrix; with thousands of labels nearly all cells are 0.

    Attributes:
      gold, predicted: label ids, int [cells].
      counts: numbers of examples, int [cells].
      labels: the number of labels.
    """

    gold: np.ndarray
    predicted: np.ndarray
    counts: np.ndarray
    labels: int

    @classmethod
    def count(cls, gold: np.ndarray, predicted: np.ndarray, labels: int) -> Self:
        """Count the pairs of label ids, int [N] each."""
        cells, counts = np.unique(gold.astype(np.int64) * labels + predicted, return_counts=True)
        return cls(cells // labels, cells % labels, counts, labels)

    @classmethod
    def of_matrix(cls, confusion: np.ndarray) -> Self:
        """Convert a dense matrix [gold, predicted]."""
        gold, predicted = np.nonzero(confusion)
        return cls(gold, predicted, confusion[gold, predicted], len(confusion))

    def totals(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of examples, [labels] each: with this gold label, with this prediction, and with both."""
        hit = self.gold == self.predicted
        pairs = (self.gold, self.counts), (self.predicted, self.counts), (self.gold[hit], self.counts[hit])
        gold, predicted, right = (np.bincount(ids, counts, self.labels) for ids, counts in pairs)
        return gold, predicted, right

    def tables(self, names: Sequence[str]) -> dict[str, Any]:
        """Tables for the journal: `confusion`, numbers of examples [gold][predicted], and `confusion_labels`, the names.

        With more than MAX_TABLE_LABELS labels instead `mistakes`, the MAX_MISTAKES most frequent confusions as
        {gold label: {predicted label: number of examples}}.
        """
        if self.labels <= MAX_TABLE_LABELS:
            matrix = np.zeros((self.labels, self.labels), np.int64)
            matrix[self.gold, self.predicted] = self.counts
            return {"confusion": matrix.tolist(), "confusion_labels": list(names)}
        wrong = np.flatnonzero(self.gold != self.predicted)
        table: dict[str, dict[str, int]] = {}
        for i in wrong[np.argsort(-self.counts[wrong], kind="stable")][:MAX_MISTAKES]:
            gold, predicted = names[int(self.gold[i])], names[int(self.predicted[i])]
            table.setdefault(gold, {})[predicted] = int(self.counts[i])
        return {"mistakes": table}


def classification_scores(cells: SparseConfusion) -> dict[str, float]:
    """Accuracy, F1 and MCC; `f1` (of label 1) only with two labels.

    As in scikit-learn by default, `macro_f1` averages over the labels that occur in gold or predictions.
    """
    from sklearn import metrics

    arguments: dict[str, Any] = {"y_true": cells.gold, "y_pred": cells.predicted, "sample_weight": cells.counts}
    present = np.union1d(cells.gold, cells.predicted)
    f1: dict[str, Any] = {"zero_division": 0.0, "labels": present}
    scores = {
        "accuracy": metrics.accuracy_score(**arguments),
        "macro_f1": metrics.f1_score(**arguments, **f1, average="macro"),
        "micro_f1": metrics.f1_score(**arguments, **f1, average="micro"),
        "mcc": _mcc(cells),
    }
    if cells.labels == 2:
        scores["f1"] = metrics.f1_score(**arguments, **{**f1, "labels": [1]}, average="macro")
    return {name: float(value) for name, value in scores.items()}


def label_scores(cells: SparseConfusion, names: Sequence[str]) -> dict[str, Any]:
    """`labels`: precision, recall, F1 and support of each label by name; empty with more than MAX_TABLE_LABELS labels."""
    if cells.labels > MAX_TABLE_LABELS:
        return {}
    gold, predicted, right = cells.totals()
    shares = [right / np.maximum(whole, 1) for whole in (predicted, gold, (predicted + gold) / 2)]
    columns = {name: x.tolist() for name, x in zip(("precision", "recall", "f1"), shares, strict=True)}
    columns["support"] = gold.astype(int).tolist()
    return {"labels": {name: {key: x[i] for key, x in columns.items()} for i, name in enumerate(names)}}


def _mcc(cells: SparseConfusion) -> float:
    """Matthews correlation coefficient for any number of labels (Gorodkin 2004), without scikit-learn's dense matrix.

    As in scikit-learn, it is 0 if gold or predictions have one label only.
    """
    gold, predicted, right = cells.totals()
    total = gold.sum()
    covariance = right.sum() * total - gold @ predicted
    variance = (total**2 - gold @ gold) * (total**2 - predicted @ predicted)
    return float(covariance / np.sqrt(variance)) if variance > 0 else 0.0


def roc_auc(gold: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve, averaged over the labels that some rows have and others do not; None if there are none.

    `gold` is bool [N, C], or [N] for one label; `scores` are of the same shape, and higher means more probable.
    """
    from sklearn import metrics

    gold, scores = gold.reshape(len(gold), -1), scores.reshape(len(scores), -1)
    defined = gold.any(0) & ~gold.all(0)
    areas = [metrics.roc_auc_score(gold[:, c], scores[:, c]) for c in np.flatnonzero(defined)]
    return float(np.mean(areas)) if areas else None


def multi_label_scores(gold: np.ndarray, scores: np.ndarray, threshold: float, names: Sequence[str]) -> dict[str, Any]:
    """Micro and macro F1, subset accuracy and ROC AUC; with at most MAX_TABLE_LABELS labels also a table of counts.

    `gold` is bool [N, C], and `scores` are probabilities [N, C]; a label is predicted from `threshold` on.
    """
    from sklearn import metrics

    predicted = scores >= threshold
    f1 = {"y_true": gold, "y_pred": predicted, "zero_division": 0.0}
    pairs = {"true_negative": (0, 0), "false_positive": (0, 1), "false_negative": (1, 0), "true_positive": (1, 1)}
    counts = {kind: ((gold == g) & (predicted == p)).sum(0).tolist() for kind, (g, p) in pairs.items()}
    table = {name: {kind: counts[kind][c] for kind in pairs} for c, name in enumerate(names)}
    return {
        "micro_f1": float(metrics.f1_score(**f1, average="micro")),
        "macro_f1": float(metrics.f1_score(**f1, average="macro")),
        "subset_accuracy": float(metrics.accuracy_score(gold, predicted)),
        "roc_auc": roc_auc(gold, scores),
        **({"confusion": table} if len(names) <= MAX_TABLE_LABELS else {}),
    }


def best_threshold(gold: np.ndarray, scores: np.ndarray) -> float:
    """The threshold with the best micro F1, midway between two scores; ties go to the highest; 0.5 if gold is empty.

    `gold` is bool [N, C], and `scores` are probabilities [N, C].
    """
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked, right = scores.ravel()[order], np.cumsum(gold.ravel()[order])
    if not right[-1]:
        return 0.5
    f1 = 2 * right / (np.arange(1, len(right) + 1) + right[-1])
    below = np.append(ranked[1:], 0.0)
    parted = ranked > below  # a threshold cannot separate equal scores
    parted[-1] = True
    best = int(np.argmax(np.where(parted, f1, -1.0)))
    middle = float(ranked[best] + below[best]) / 2
    return middle if middle > below[best] else float(ranked[best])  # adjacent floats have no midpoint
