"""Scores of predicted numbers by scipy."""

import warnings
from typing import Any

import numpy as np


def regression_scores(gold: np.ndarray, predicted: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """Pearson and Spearman correlation and mean squared error, means over the targets; a table by target if several.

    A correlation that is not defined (fewer than two rows, or a side that is constant) is 0.

    Args:
      gold, predicted: [N, C].
      names: of the C targets.
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
    means = {metric: float(np.mean([row[metric] for row in table.values()])) for metric in ("pearson", "spearman", "mse")}
    return means | ({"targets": table} if len(names) > 1 else {})


def _correlation(function: Any, x: np.ndarray, y: np.ndarray) -> float:
    from scipy import stats

    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return float(function(x, y).statistic)
