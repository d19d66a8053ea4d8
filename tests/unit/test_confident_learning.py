"""Confident learning against loops over the formulas of the paper."""

import numpy as np
import pytest

from jaxft.data.cleaning import confident_learning


def example(rows: int = 400, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(probabilities [N, K], given labels [N], which of them were changed [N])."""
    rng = np.random.default_rng(seed)
    true = rng.choice(classes, rows, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    changed = rng.random(rows) < 0.1
    given = np.where(changed, (true + rng.integers(1, classes, rows)) % classes, true)
    logits = rng.normal(0, 1, (rows, classes)) + 3 * np.eye(classes)[true]
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), given, changed


def joint_by_the_paper(p: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(confident joint of equation 1, N times the joint of equation 3)."""
    n, k = p.shape
    t = [np.mean([p[x, j] for x in range(n) if given[x] == j]) for j in range(k)]
    counts = np.zeros((k, k), int)
    for x in range(n):
        candidates = [j for j in range(k) if p[x, j] >= t[j]]
        if candidates:
            counts[given[x], max(candidates, key=lambda j: p[x, j])] += 1
    scaled = np.array([counts[i] / counts[i].sum() * np.sum(given == i) for i in range(k)])
    return counts, scaled / scaled.sum() * n


@pytest.mark.parametrize("seed", range(3))
def test_the_joint_is_that_of_the_paper(seed):
    p, given, _ = example(seed=seed)
    counts, joint = joint_by_the_paper(p, given)
    np.testing.assert_array_equal(confident_learning.confident_joint(p, given), counts)
    np.testing.assert_allclose(confident_learning.estimated_joint(p, given), joint, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_rules_list_the_rows_of_the_paper(seed):
    p, given, _ = example(seed=seed)
    counts, joint = joint_by_the_paper(p, given)
    by_class, by_rate, n = set(), set(), len(p)
    for i in range(p.shape[1]):
        rows = [x for x in range(n) if given[x] == i]
        total = round(sum(joint[i, j] for j in range(p.shape[1]) if j != i))
        by_class |= set(sorted(rows, key=lambda x: p[x, i])[:total])
        for j in set(range(p.shape[1])) - {i}:
            by_rate |= set(sorted(rows, key=lambda x: p[x, j] - p[x, i], reverse=True)[: round(joint[i, j])])
    doubted = {x for x in range(n) if p[x].argmax() != given[x]}
    expected = {"class": by_class & doubted, "noise_rate": by_rate & doubted, "both": by_class & by_rate & doubted}
    for rule, rows in expected.items():
        assert set(np.flatnonzero(confident_learning.suspicious(p, given, rule))) == rows
        assert rows
    with pytest.raises(ValueError, match="unknown rule x"):
        confident_learning.suspicious(p, given, "x")
    confident = confident_learning.suspicious(p, given, "confident")
    assert 0 < confident.sum() <= counts.sum() - np.trace(counts)
    assert confident_learning.suspicious(p, given, "all").all()


def test_scores():
    p, given = np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]), np.array([2, 0])
    np.testing.assert_allclose(confident_learning.self_confidence(p, given), [0.3, 0.7])
    np.testing.assert_allclose(confident_learning.margins(p, given), [-0.2, 0.5])


def test_most_changed_labels_are_listed_first():
    p, given, changed = example(rows=2000)
    first = np.argsort(confident_learning.self_confidence(p, given))[: changed.sum()]
    assert changed[first].mean() > 0.7
    listed = confident_learning.suspicious(p, given, "noise_rate")
    assert changed[listed].mean() > 0.6
    assert listed[changed].mean() > 0.6


def test_a_label_that_is_never_given_or_never_confident():
    """No division by zero, and rows with it are not listed for that reason."""
    p = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.7, 0.3, 0.0]])
    given = np.array([0, 1, 1])
    joint = confident_learning.estimated_joint(p, given)
    np.testing.assert_allclose(joint.sum(1), [1, 2, 0])
    assert confident_learning.thresholds(p, given)[2] == np.inf


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_folds_keep_groups_together_and_spread_labels(folds):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 200)
    groups = np.where(np.arange(200) < 190, np.arange(200), 5)  # the last ten rows have the text of row 5
    found = confident_learning.fold_numbers(groups, labels, folds, np.random.default_rng(2))
    assert set(found) == set(range(folds))
    assert len(set(found[[5, *range(190, 200)]])) == 1
    for label in range(4):
        counts = np.bincount(found[:190][labels[:190] == label], minlength=folds)
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(found, confident_learning.fold_numbers(groups, labels, folds, np.random.default_rng(2)))
