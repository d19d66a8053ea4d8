"""Which predictions become labels."""

import numpy as np
import pytest

from jaxft.evaluation import pseudo_labels


def by_loop(p: np.ndarray, threshold: float, most: int | None) -> list[int]:
    taken = []
    for label in range(p.shape[1]):
        rows = [i for i in range(len(p)) if p[i].argmax() == label and p[i].max() >= threshold]
        taken += sorted(rows, key=lambda i: (-p[i].max(), i))[:most]
    return sorted(taken)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("most", [None, 1, 7])
def test_choose(threshold, most):
    logits = np.random.default_rng(0).normal(0, 2, (200, 4)).round(1)  # so that some probabilities are equal
    logits[:, 3] -= 20  # a label that is never predicted
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert pseudo_labels.choose(p, threshold, most).tolist() == by_loop(p, threshold, most)


def test_the_threshold_is_reached_and_the_most_probable_are_taken():
    p = np.array([[0.9, 0.1], [0.75, 0.25], [0.2, 0.8], [0.5, 0.5]])
    assert pseudo_labels.choose(p, 0.75).tolist() == [0, 1, 2]
    assert pseudo_labels.choose(p, 0.75, 1).tolist() == [0, 2]
