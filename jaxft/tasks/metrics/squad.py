"""Exact match and F1 of answers, as in SQuAD 2.0's official script (Rajpurkar et al. 2018, arXiv:1806.03822).

SQuAD 1.1's script differs only for answers that are empty after normalisation.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower-case the text and remove punctuation, articles and extra white space."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> float:
    """1.0 if both are equal after normalisation, otherwise 0.0."""
    return float(normalise(prediction) == normalise(gold))


def f1(prediction: str, gold: str) -> float:
    """F1 of the bags of words; if one side is empty, 1.0 if both are, otherwise 0.0."""
    ours, theirs = normalise(prediction).split(), normalise(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (Counter(ours) & Counter(theirs)).total() / (len(ours) + len(theirs))


def best_over_golds(
    metric: Callable[[str, str], float], predictions: Sequence[str], golds: Sequence[Sequence[str]]
) -> np.ndarray:
    """The best value of a metric over each question's gold answers, float64 [N]; without gold, no answer is right."""
    pairs = zip(predictions, map(usable_golds, golds), strict=True)
    return np.array([max(metric(prediction, gold) for gold in right) for prediction, right in pairs])


def usable_golds(golds: Sequence[str]) -> Sequence[str]:
    """The gold answers that are not empty after normalisation; the empty answer if there are none."""
    return [gold for gold in golds if normalise(gold)] or [""]


def squad_scores(predictions: Sequence[str], golds: Sequence[Sequence[str]], unanswerable: bool) -> dict[str, float | int]:
    """`f1` and `exact_match` in percent, from one answer per question (empty for no answer) and its gold answers.

    If `unanswerable`, the scores of questions with and without answer are added under the official names.
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
    """The threshold with the best F1; a question is answered if its null odds are not above the threshold.

    As `find_best_thresh` in the official script, with two differences: questions with equal odds are decided together, and
    the threshold lies midway between odds, where rounding cannot flip an answer.

    Args:
      null_odds: [N], the score of no answer minus the score of the best answer.
      answers, golds: the best answer and the gold answers of each question.
    """
    answered, silent = (best_over_golds(f1, texts, golds) for texts in (answers, [""] * len(answers)))
    order = np.argsort(null_odds, kind="stable")
    odds, gain = null_odds[order], np.concatenate([[0.0], np.cumsum((answered - silent)[order])])
    edges = np.concatenate([odds[:1] - 1, (odds[1:] + odds[:-1]) / 2, odds[-1:] + 1])
    possible = np.concatenate([[True], odds[1:] > odds[:-1], [True]])
    return float(edges[possible][np.argmax(gain[possible])])
