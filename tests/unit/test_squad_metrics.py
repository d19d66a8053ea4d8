"""Exact match, F1 and the null threshold are those of the official SQuAD script."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxft.tasks.metrics.squad import best_null_threshold, exact_match, f1, normalise, squad_scores
from tests.support import official_squad as official

PIECES = ["the", "The", "a", "an", "river", "River!", "bank", "bank's", "-", ".", " ", "  ", "\t", "there", "Ann", "ß"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map(" ".join) | st.text(max_size=8) | st.just("")
QUESTIONS = st.lists(st.tuples(st.lists(TEXTS, max_size=3), TEXTS), min_size=1, max_size=8)


@given(TEXTS, TEXTS)
@example("", "")
@example("the", "")
@example("a river", "The river.")
@settings(max_examples=300, deadline=None)
def test_scores_of_one_answer_are_official(gold, prediction):
    assert normalise(prediction) == official.normalize_answer(prediction)
    assert exact_match(prediction, gold) == official.compute_exact(gold, prediction)
    assert f1(prediction, gold) == pytest.approx(official.compute_f1(gold, prediction), abs=1e-12)


@given(QUESTIONS)
@settings(max_examples=200, deadline=None)
def test_scores_of_many_answers_are_official(questions):
    golds, predictions = {i: g for i, (g, _) in enumerate(questions)}, {i: p for i, (_, p) in enumerate(questions)}
    found = squad_scores(list(predictions.values()), list(golds.values()), unanswerable=True)
    assert found == pytest.approx(official.evaluate(golds, predictions), abs=1e-9)
    plain = squad_scores(list(predictions.values()), list(golds.values()), unanswerable=False)
    assert plain == {name: found[name] for name in ("f1", "exact_match")}


@given(QUESTIONS, st.data())
@settings(max_examples=300, deadline=None)
def test_the_null_threshold_is_the_best_one(questions, data):
    """No threshold has a better F1, also with ties; without ties its F1 is the one that the official search reports."""
    distinct = data.draw(st.booleans())
    some = st.integers(-3, 3) if not distinct else st.integers(-50, 50)
    drawn = data.draw(st.lists(some, min_size=len(questions), max_size=len(questions), unique=distinct))
    odds = np.array(drawn, np.float64) / 4
    golds, answers = [g for g, _ in questions], [p for _, p in questions]

    def score(threshold: float) -> float:
        chosen = [answer if odd <= threshold else "" for answer, odd in zip(answers, odds, strict=True)]
        return squad_scores(chosen, golds, unanswerable=True)["f1"]

    threshold = best_null_threshold(odds, answers, golds)
    assert score(threshold) == pytest.approx(max(score(t) for t in [-100.0, *odds]), abs=1e-9)
    assert not np.isin(threshold, odds)
    if distinct:
        has = {i: any(map(official.normalize_answer, g)) for i, g in enumerate(golds)}
        # The official search counts a non-empty answer as wrong if the question has none.
        meaning = [a if official.normalize_answer(a) else "" for a in answers]
        _, scores = official.raw_scores(dict(enumerate(golds)), dict(enumerate(meaning)))
        best, _ = official.find_best_thresh(meaning, scores, dict(enumerate(odds)), has)
        assert score(threshold) == pytest.approx(100 * best / len(golds), abs=1e-9)
