"""Scores of predicted numbers, computed by scipy."""

import warnings
from typing import Any

import numpy as np


def regression_scores(gold: np.ndarray, predicted: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """Pearson and Spearman correlation and mean squared error of numbers [N, C], averaged over the C targets `names`.

    If there are several targets, there is a table too. The correlation is undefined (None) if the gold numbers are constant
    or there is only one; it is 0 if the predictions are constant. Means are over the targets whose correlation is defined.
    """
    from scipy import stats

    gold, predicted = gold.astype(np.float64), predicted.astype(np.float64)
    table = {
        name: {
            "pearson": _correlation(stats.pearsonr, x, y),
            "spearman": _correlation(stats.spearmanr, x, y),
            "mse": float(np.mean((x - y) ** 2)),
        }
        for name, x, y in zip(names, gold.T, predicted.T, strict=True)
    }
    means: dict[str, float | None] = {}
    for metric in ("pearson", "spearman", "mse"):
        known = [row[metric] for row in table.values() if row[metric] is not None]
        means[metric] = float(np.mean(known)) if known else None
    return means | ({"targets": table} if len(names) > 1 else {})


def _correlation(function: Any, gold: np.ndarray, predicted: np.ndarray) -> float | None:
    from scipy import stats

    if len(gold) < 2 or np.ptp(gold) == 0:
        return None
    if np.ptp(predicted) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return float(function(gold, predicted).statistic)
