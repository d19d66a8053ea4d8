"""Confident learning: which given labels are probably wrong (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068).

The arguments of all functions are `probabilities`, float [N, K], each row predicted by a model that was not trained on it,
and `labels`, int [N], the given labels. Equal probabilities are decided in favour of the lower label number.
"""

import numpy as np


def self_confidence(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability of the given label of each row, [N]."""
    return probabilities[np.arange(len(labels)), labels]


def margins(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability of the given label minus the largest of the other labels, [N], from -1 to 1."""
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return self_confidence(probabilities, labels) - others.max(1)


def thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean self-confidence of the rows with each given label, [K] (equation 2); infinity for a label without rows."""
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=self_confidence(probabilities, labels), minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_labels(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The most probable of the labels whose probability reaches their threshold, int [N]; -1 if none does."""
    reached = probabilities >= thresholds(probabilities, labels)
    return np.where(reached.any(1), np.where(reached, probabilities, -np.inf).argmax(1), -1)


def confident_joint(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The number of rows with given label i that confidently have label j, int [K, K] (equation 1)."""
    classes, confident = probabilities.shape[1], confident_labels(probabilities, labels)
    known = confident >= 0
    return np.bincount(labels[known] * classes + confident[known], minlength=classes**2).reshape(classes, classes)


def estimated_joint(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The estimated number of rows with given label i and true label j, float [K, K]: equation 3 times N.

    Row i of the confident joint is scaled to the number of rows with the given label i. If it is zero, no error is
    estimated.
    """
    joint = confident_joint(probabilities, labels).astype(np.float64)
    unseen = joint.sum(1) == 0
    joint[unseen, unseen] = 1
    return joint / joint.sum(1, keepdims=True) * np.bincount(labels, minlength=len(joint))[:, None]


def suspicious(probabilities: np.ndarray, labels: np.ndarray, rule: str) -> np.ndarray:
    """Which rows a rule lists, bool [N].

    Rules (section 3.2 of the paper; all but `all` leave out rows whose given label is the most probable one):
      noise_rate: for each given label and each other one the estimated number of rows, those with the smallest margin
        between the two.
      class: for each given label the estimated number of wrong rows, those with the smallest probability of it.
      both: what noise_rate and class both list.
      confident: rows that confidently have another label.
      all: every row.
    """
    if rule == "all":
        return np.ones(len(labels), bool)
    if rule == "both":
        return suspicious(probabilities, labels, "class") & suspicious(probabilities, labels, "noise_rate")
    doubted = probabilities.argmax(1) != labels
    if rule == "confident":
        confident = confident_labels(probabilities, labels)
        return doubted & (confident >= 0) & (confident != labels)
    if rule not in ("class", "noise_rate"):
        raise ValueError(f"unknown rule {rule}")
    wrong = estimated_joint(probabilities, labels)
    np.fill_diagonal(wrong, 0)
    listed = np.zeros(len(labels), bool)
    for given in range(probabilities.shape[1]):
        rows = np.flatnonzero(labels == given)
        if rule == "class":
            order = np.argsort(probabilities[rows, given], kind="stable")
            listed[rows[order[: round(wrong[given].sum())]]] = True
            continue
        for other in np.flatnonzero(wrong[given]):
            order = np.argsort(probabilities[rows, given] - probabilities[rows, other], kind="stable")
            listed[rows[order[: round(wrong[given, other])]]] = True
    return listed & doubted


def fold_numbers(groups: np.ndarray, labels: np.ndarray, folds: int, generator: np.random.Generator) -> np.ndarray:
    """A fold, from 0, for each row, int [N]: rows of one group share it, and each label is spread evenly over the folds.

    Args:
      groups: int [N]; rows with the same text are one group, as each would tell the label of the other.
      labels: int [N]; a group counts as the label of its first row.
      folds: the number of folds, at most that of the groups.
      generator: draws the order in which the groups of a label are dealt out.
    """
    _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    order = generator.permutation(len(first))
    order = order[np.argsort(labels[first[order]], kind="stable")]
    fold_of_group = np.empty(len(first), np.int64)
    fold_of_group[order] = np.arange(len(first)) % folds
    return fold_of_group[group_of.reshape(-1)]
