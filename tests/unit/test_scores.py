"""Scores of multi-label classification and regression are scikit-learn's and scipy's, also for ties and constants."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from jaxft.tasks.metrics.classification import best_threshold, multi_label_scores, roc_auc
from jaxft.tasks.metrics.regression import regression_scores

RNG = np.random.default_rng(0)
GOLD = RNG.random((60, 4)) < [0.5, 0.2, 0.05, 0.9]
RANDOM = np.clip(GOLD * 0.3 + RNG.random((60, 4)) * 0.7, 0, 1)
NOBODY = GOLD & np.array([True, True, False, True])
CASES = {
    "random": (GOLD, RANDOM),
    "ties": (GOLD, np.round(RANDOM, 1)),
    "constant": (GOLD, np.full(GOLD.shape, 0.7)),
    "all right": (GOLD, GOLD * 1.0),
    "all wrong": (GOLD, 1.0 - GOLD),
    "a label nobody has": (NOBODY, RANDOM),
    "a label everybody has": (GOLD | ~NOBODY.any(0), RANDOM),
    "no labels": (GOLD & False, RANDOM),
    "nothing said": (GOLD, RANDOM * 0.0),
    "one row": (GOLD[:1], RANDOM[:1]),
}


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_multi_label_scores_are_scikit_learns(case, threshold):
    gold, scores = CASES[case]
    found = multi_label_scores(gold, scores, threshold, "abcd")
    predicted = scores >= threshold
    for average in ("micro", "macro"):
        right = metrics.f1_score(gold, predicted, average=average, zero_division=0.0)
        assert found[f"{average}_f1"] == pytest.approx(right, abs=1e-12)
    assert found["subset_accuracy"] == np.mean((gold == predicted).all(1))
    cells = {"true_negative": (0, 0), "false_positive": (0, 1), "false_negative": (1, 0), "true_positive": (1, 1)}
    table = dict(zip("abcd", metrics.multilabel_confusion_matrix(gold, predicted), strict=True))
    assert found["confusion"] == {name: {kind: x[at] for kind, at in cells.items()} for name, x in table.items()}
    mixed = [c for c in range(4) if 0 < gold[:, c].sum() < len(gold)]
    right = metrics.roc_auc_score(gold[:, mixed], scores[:, mixed], average="macro") if mixed else None
    assert found["roc_auc"] == (right if right is None else pytest.approx(right, abs=1e-12))


@pytest.mark.parametrize("case", CASES)
def test_no_threshold_is_better_than_the_best_one(case):
    gold, scores = (x[:15] for x in CASES[case])

    def f1(threshold: float) -> float:
        return metrics.f1_score(gold, scores >= threshold, average="micro", zero_division=0.0)

    best = best_threshold(gold, scores)
    assert 0 <= best <= 1
    others = [0.0, 1.1, *scores.ravel(), *np.nextafter(scores.ravel(), 2)]
    assert f1(best) == pytest.approx(max(map(f1, others)), abs=1e-12)


def test_a_threshold_lies_between_the_scores_that_it_separates():
    gold = np.array([[True, True], [False, True]])
    assert best_threshold(gold, np.array([[0.9, 0.8], [0.2, 0.6]])) == pytest.approx(0.4)
    near = np.nextafter(0.9, 1)
    assert best_threshold(np.array([[True], [False]]), np.array([[near], [0.9]])) == near
    assert best_threshold(np.array([[False], [False]]), np.array([[0.9], [0.1]])) == 0.5


@pytest.mark.parametrize(
    ("gold", "scores"),
    [([0, 1, 1, 0], [0.1, 0.4, 0.4, 0.4]), ([1, 0], [-3.0, 5.0]), ([0, 1, 1], [2.0, 2.0, 2.0])],
)
def test_roc_auc_is_scikit_learns(gold, scores):
    assert roc_auc(np.array(gold) == 1, np.array(scores)) == pytest.approx(metrics.roc_auc_score(gold, scores))


@pytest.mark.parametrize("gold", [[True, True], [False, False], [True]])
def test_roc_auc_of_one_label_is_unknown(gold):
    assert roc_auc(np.array(gold), np.linspace(0, 1, len(gold))) is None


NUMBERS = RNG.normal(2, 3, (50, 2))
CLOSE = NUMBERS + RNG.normal(0, 2, (50, 2))


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [(NUMBERS, CLOSE), (np.round(NUMBERS), np.round(CLOSE)), (NUMBERS, -NUMBERS), (NUMBERS[:2], CLOSE[:2])],
    ids=["random", "ties", "opposite", "two rows"],
)
def test_regression_scores_are_scipys(gold, predicted):
    found = regression_scores(gold, predicted, ("joy", "fear"))
    for c, name in enumerate(("joy", "fear")):
        x, y = gold[:, c], predicted[:, c]
        right = {
            "pearson": stats.pearsonr(x, y).statistic,
            "spearman": stats.spearmanr(x, y).statistic,
            "mse": metrics.mean_squared_error(x, y),
        }
        assert found["targets"][name] == pytest.approx(right, abs=1e-12)
    for metric in ("pearson", "spearman", "mse"):
        mean = np.mean([found["targets"][name][metric] for name in ("joy", "fear")])
        assert found[metric] == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize(
    ("gold", "predicted", "right"),
    [([1.0, 2.0, 3.0], [5.0, 5.0, 5.0], 0), ([4.0, 4.0], [1.0, 2.0], None), ([1.0], [3.0], None)],
    ids=["constant predictions", "constant gold", "one row"],
)
def test_correlations_of_constants_are_zero_or_unknown(gold, predicted, right):
    found = regression_scores(np.array(gold)[:, None], np.array(predicted)[:, None], ("score",))
    assert found == {"pearson": right, "spearman": right, "mse": np.mean(np.square(np.array(gold) - predicted))}


def test_means_are_over_the_targets_with_known_scores():
    gold = np.array([[1.0, 7.0], [2.0, 7.0], [4.0, 7.0]])
    found = regression_scores(gold, gold[:, ::-1] + [[0, 1], [1, 0], [1, 2]], ("known", "constant"))
    assert found["targets"]["constant"]["pearson"] is None
    assert found["pearson"] == found["targets"]["known"]["pearson"]


def test_nearly_constant_predictions_give_a_number():
    gold, predicted = np.arange(3.0)[:, None], np.array([[1e8], [1e8], [1e8 + 1e-7]])
    assert 0 < regression_scores(gold, predicted, ("score",))["pearson"] <= 1
