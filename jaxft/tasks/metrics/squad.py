"""Exact match and F1 of answers by the rules of SQuAD 2.0's official script (Rajpurkar et al. 2018, arXiv:1806.03822).

That of SQuAD 1.1 differs only for answers of which normalisation leaves nothing.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and surplus white space."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> float:
    """1 where both are the same after normalisation, otherwise 0."""
    return float(normalise(prediction) == normalise(gold))


def f1(prediction: str, gold: str) -> float:
    """F1 of the bags of words; no word on either side is right only on both."""
    ours, theirs = normalise(prediction).split(), normalise(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (Counter(ours) & Counter(theirs)).total() / (len(ours) + len(theirs))


def best_over_golds(
    metric: Callable[[str, str], float], predictions: Sequence[str], golds: Sequence[Sequence[str]]
) -> np.ndarray:
    """The best of a metric over the right answers of each question, float64 [N]; without any, no answer is right."""
    pairs = zip(predictions, map(usable_golds, golds), strict=True)
    return np.array([max(metric(prediction, gold) for gold in right) for prediction, right in pairs])


def usable_golds(golds: Sequence[str]) -> Sequence[str]:
    """The right answers that say something; the empty answer where there are none."""
    return [gold for gold in golds if normalise(gold)] or [""]


def squad_scores(predictions: Sequence[str], golds: Sequence[Sequence[str]], unanswerable: bool) -> dict[str, float | int]:
    """`f1` and `exact_match` in percent.

    Args:
      predictions: an answer a question; empty for none.
      golds: right answers of each question.
      unanswerable: also give the figures of questions with and without answer, under the official names.
    """
    found = {"f1": best_over_golds(f1, predictions, golds), "exact_match": best_over_golds(exact_match, predictions, golds)}
    scores: dict[str, float | int] = {name: 100 * float(values.mean()) for name, values in found.items()}
    if unanswerable:
        has_answer = np.array([usable_golds(right) != [""] for right in golds])
        for kind, chosen in {"HasAns": has_answer, "NoAns": ~has_answer}.items():
            if chosen.any():
                scores |= {f"{kind}_f1": 100 * float(found["f1"][chosen].mean())}
                scores |= {f"{kind}_exact": 100 * float(found["exact_match"][chosen].mean())}
                scores |= {f"{kind}_total": int(chosen.sum())}
    return scores


def best_null_threshold(null_odds: np.ndarray, answers: Sequence[str], golds: Sequence[Sequence[str]]) -> float:
    """The threshold with the best F1, where questions get their answer whose null odds are not above it.

    As `find_best_thresh` of the official script, with two differences: questions of equal odds are decided together, and
    the threshold lies midway between odds, where rounding cannot flip an answer.

    Args:
      null_odds: how far the score of no answer is above that of the best answer, [N].
      answers: the best answer of each question.
      golds: right answers of each question.
    """
    answered, silent = (best_over_golds(f1, texts, golds) for texts in (answers, [""] * len(answers)))
    order = np.argsort(null_odds, kind="stable")
    odds, gain = null_odds[order], np.concatenate([[0.0], np.cumsum((answered - silent)[order])])
    edges = np.concatenate([odds[:1] - 1, (odds[1:] + odds[:-1]) / 2, odds[-1:] + 1])
    possible = np.concatenate([[True], odds[1:] > odds[:-1], [True]])
    return float(edges[possible][np.argmax(gain[possible])])
