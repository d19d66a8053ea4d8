"""How much more probable a text is in a target domain than in the source domain, from a classifier of both.

Weighing source examples by this ratio makes their mean loss an estimate of that in the target domain, where labels depend on
texts in the same way (Shimodaira 2000); a logistic classifier estimates it without either density (Bickel et al. 2009,
Discriminative Learning Under Covariate Shift, JMLR 10).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxft.core.errors import UserError

FOLDS = 5


@dataclass(frozen=True)
class Importance:
    """The importance of source texts.

    Attributes:
      weights: float64 [N], 0 or more, with mean 1.
      auc: how well held-out texts of the two domains are told apart, from 0.5 (not at all) to 1.
    """

    weights: np.ndarray
    auc: float

    @property
    def effective(self) -> float:
        """The number of equally weighted examples whose mean would be as exact: (sum w)^2 / sum w^2 (Kish 1965)."""
        return float(self.weights.sum() ** 2 / np.square(self.weights).sum())


def words_of(source: Sequence[str], target: Sequence[str]) -> tuple[Any, Any]:
    """Features of both: the words of each text, weighted by tf-idf, as sparse rows [N, words] and [M, words].

    Raises:
      UserError: if there is no word.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=50_000, token_pattern=r"(?u)\w+|[^\w\s]")
    try:
        every = vectorizer.fit_transform([*source, *target])
    except ValueError as error:
        raise UserError("the texts have no words, so nothing tells their domains apart") from error
    return every[: len(source)], every[len(source) :]


def importance(source: Any, target: Any, *, clip: float, seed: int) -> Importance:
    """p(target | x) / p(source | x) of the source texts, as if there were as many of both: at most `clip`, then with mean 1.

    Each text is judged by a logistic regression that was fitted without it, on four fifths of both domains.

    Args:
      source, target: features [N, D] and [M, D], dense or sparse, N and M at least FOLDS.
      clip: the largest ratio: few examples with large weights would make the loss noisy.
      seed: of the division into folds.

    Raises:
      UserError: if a domain has too few texts.
    """
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    counts = source.shape[0], target.shape[0]
    if min(counts) < FOLDS:
        raise UserError(f"there are {counts[0]:,} source and {counts[1]:,} target texts: give at least {FOLDS} of each")
    stack: Any = sparse.vstack if sparse.issparse(source) else np.concatenate
    labels = np.repeat([0, 1], counts)
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    every = stack([source, target])
    logits = np.asarray(cross_val_predict(model, every, labels, cv=folds, method="decision_function"))
    ratios = np.exp(np.minimum(logits[: counts[0]], np.log(clip)))
    return Importance(ratios / ratios.mean(), float(roc_auc_score(labels, logits)))
