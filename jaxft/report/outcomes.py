"""Pairs of gold and predicted labels, counted: confusions, scores per label and calibration. Plain functions of rows.

A row is one of predictions/SPLIT.jsonl (`evaluation.labelled_predictions`), and its `form` says what it holds.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from jaxft.data.formats.prediction_rows import fields

Form = Literal["label", "labels", "tags", "answer", "choice", "numbers", "other"]
Confusion = Mapping[tuple[str, str], int]  # (gold, predicted) -> how many examples
BINS, NOTHING = 10, "(none)"


def form(row: Mapping[str, Any]) -> Form:
    """What a prediction is: a label, several, tags of words, a piece of a text, a choice, or numbers.

    Only its own fields tell: a file may have a column `start` or `words`.
    """
    predicted, own = row.get("prediction"), fields(row)
    if "words" in own and isinstance(predicted, list):
        return "tags"
    if "start" in own:
        return "answer"
    if isinstance(predicted, list):
        return "labels"
    if isinstance(predicted, str):
        return "label"
    if "probabilities" in own and isinstance(row["probabilities"], list):
        return "choice"
    return "numbers" if isinstance(predicted, dict | int | float) else "other"


def is_right(row: Mapping[str, Any]) -> bool:
    """Whether a prediction is right; an answer is right if it is an exact match by SQuAD's rules."""
    gold, predicted = row.get("gold"), row.get("prediction")
    if form(row) == "answer":
        from jaxft.tasks.metrics import squad  # only here, because it imports JAX

        return any(squad.exact_match(predicted or "", x) for x in squad.usable_golds(gold or []))
    if form(row) == "labels":
        return sorted(gold or []) == sorted(predicted or [])
    return gold == predicted


def pairs(rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    """(gold, predicted) of every text or choice, or of every word of tagged sentences.

    Of several labels per text, a gold label that is predicted is a pair with itself; one that is not makes a pair with each
    label that is predicted wrongly, or with NOTHING if there is none.
    """
    for row in rows:
        if form(row) == "labels":
            gold, predicted = {*(row.get("gold") or ())}, {*(row.get("prediction") or ())}
            yield from ((label, label) for label in gold & predicted)
            yield from product(gold - predicted, predicted - gold or {NOTHING})
            yield from product({NOTHING} if gold <= predicted else (), predicted - gold)
        if form(row) == "tags":
            yield from zip(row["gold"] or [], row["prediction"], strict=False)
        elif row.get("gold") is not None and form(row) in ("label", "choice"):
            yield str(row["gold"]), str(row["prediction"])


def confusion(rows: Sequence[Mapping[str, Any]]) -> Counter[tuple[str, str]]:
    """How often each gold label is predicted as which label."""
    return Counter(pairs(rows))


@dataclass(frozen=True)
class LabelScores:
    """The scores of one label; a share of nothing is None."""

    label: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float


def label_scores(rows: Sequence[Mapping[str, Any]]) -> list[LabelScores]:
    """The scores of every label that occurs, the worst F1 first, then the one with most examples."""
    gold, predicted, right = Counter[str](), Counter[str](), Counter[str]()
    if rows and form(rows[0]) == "labels":
        for row in rows:
            own, given = set(row["gold"] or ()), set(row["prediction"] or ())
            gold.update(own)
            predicted.update(given)
            right.update(own & given)
    else:
        for (a, b), count in confusion(rows).items():
            gold[a] += count
            predicted[b] += count
            right[a] += count * (a == b)
    scores = []
    for label in gold | predicted:
        own, given, hits = gold[label], predicted[label], right[label]
        precision, recall = (hits / given if given else None), (hits / own if own else None)
        scores.append(LabelScores(label, own, given, precision, recall, 2 * hits / (own + given)))
    return sorted(scores, key=lambda x: (x.f1, -x.support, x.label))


def numbers(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """(gold, predicted) of every row by target; empty if the predictions are no numbers."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if form(row) == "numbers" and isinstance(row.get("gold"), dict):
            for name, gold in row["gold"].items():
                found.setdefault(name, []).append((gold, row["prediction"][name]))
    return found


def most_confused(found: Confusion, most: int) -> list[tuple[str, str, int]]:
    """(gold, predicted, count) of the most frequent mistakes."""
    wrong = [(gold, predicted, count) for (gold, predicted), count in found.items() if gold != predicted]
    return sorted(wrong, key=lambda x: (-x[2], x[0], x[1]))[:most]


def in_most_mistakes(found: Confusion, most: int) -> list[str]:
    """The labels that take part in most mistakes, those with the most first."""
    counts = Counter[str]()
    for (gold, predicted), count in found.items():
        if gold != predicted:
            counts[gold] += count
            counts[predicted] += count
    return [label for label, _ in sorted(counts.items(), key=lambda x: (-x[1], x[0]))[:most]]


def calibration(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, int]]:
    """(mean confidence, share right, number of predictions) of BINS equal parts from 0 to 1; empty ones are left out.

    A prediction is a label, a choice or an answer; of several labels per text, each label that a row has the probability of
    is one, which is right if it is a gold label.
    """
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for row in rows:
        if row.get("gold") is None or form(row) not in ("label", "labels", "choice", "answer"):
            continue
        found = [(row.get("score"), is_right(row))]
        if form(row) == "labels":
            found = [(share, name in row["gold"]) for name, share in (row.get("probabilities") or {}).items()]
        for score, right in found:
            if isinstance(score, int | float) and math.isfinite(score):
                bins[min(int(score * BINS), BINS - 1)].append((score, right))
    return [(sum(s for s, _ in x) / len(x), sum(r for _, r in x) / len(x), len(x)) for x in bins if x]


def calibration_error(points: Sequence[tuple[float, float, int]]) -> float | None:
    """The expected calibration error (Guo et al. 2017): the mean distance of confidence from accuracy, by examples."""
    total = sum(count for *_, count in points)
    return sum(count * abs(a - b) for a, b, count in points) / total if total else None


def badness(row: Mapping[str, Any]) -> float:
    """How bad a wrong prediction is: higher is worse.

    For labels and choices it is 1 minus the probability of the gold label; for several labels, the sum of the distances of
    the probabilities of the wrong ones from right; for tags the number of wrong ones; for answers their probability; for
    numbers the sum of their distances. The row has a gold answer.
    """
    kind = form(row)
    gold: Any = row.get("gold")
    predicted: Any = row.get("prediction")
    shares: Any = row.get("probabilities")
    if kind == "label" and isinstance(shares, dict):
        return 1 - shares.get(gold, 0.0)
    if kind == "choice":
        return 1 - shares[gold]
    if kind == "labels":
        wrong = sorted({*gold} ^ {*predicted})
        return sum(abs((shares or {}).get(x, 0.5) - (x in gold)) for x in wrong)
    if kind == "tags":
        return sum(a != b for a, b in zip(gold, predicted, strict=False))
    if kind == "numbers":
        right, given = (x if isinstance(x, dict) else {"": x} for x in (gold, predicted))
        return sum(abs(right[name] - given[name]) for name in right)
    return row.get("score") or 0.0


def worst(rows: Sequence[Mapping[str, Any]], most: int | None = None) -> list[Mapping[str, Any]]:
    """The wrong predictions, the worst first, at most `most`."""
    wrong = [row for row in rows if row.get("gold") is not None and not is_right(row)]
    return sorted(wrong, key=badness, reverse=True)[:most]  # stable: equally bad ones stay in the order of the file
