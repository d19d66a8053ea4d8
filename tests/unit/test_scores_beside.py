"""A variant of a model is refused if its score is lower than that of the model by more than the user allows."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from jaxft.core.errors import UserError
from jaxft.deploy import scores


@dataclass(frozen=True)
class Opened:
    """What `scores_beside` reads of a model with its task."""

    metric: str
    higher: bool
    model: Any = "model"

    @property
    def task(self):
        return SimpleNamespace(metrics={self.metric: self.higher})

    @property
    def config(self):
        return SimpleNamespace(eval=SimpleNamespace(metric=None), data=SimpleNamespace(validation="dev.csv"))


@pytest.fixture
def beside(monkeypatch):
    """`scores_beside` for a score of the model, and one of the variant."""

    def found(metric, higher, before, after, most):
        monkeypatch.setattr(scores, "replayed", lambda model, run: SimpleNamespace(seen=[{"input_ids": run}]))
        results = {"model": before, "variant": after}
        name = lambda opened: "model" if opened.model == "model" else "variant"  # noqa: E731
        monkeypatch.setattr(scores, "evaluate", lambda opened, *_: ({metric: results[name(opened)]}, None))
        return scores.scores_beside(Opened(metric, higher), [], "validation", "run", "int8", most, print)

    return found


@pytest.mark.parametrize(("higher", "after"), [(True, 0.89), (True, 0.95), (False, 0.91), (False, 0.2)])
def test_a_variant_that_loses_little_has_both_scores(beside, higher, after):
    record, seen = beside("score", higher, 0.9, after, 0.0101)
    assert (record["metric"], record["data"], record["float32"], record["int8"]) == ("score", "dev.csv", 0.9, after)
    assert seen == {"input_ids": "run"}


@pytest.mark.parametrize(("higher", "after"), [(True, 0.88), (False, 0.92), (True, float("nan"))])
def test_a_variant_that_loses_more_is_refused(beside, higher, after):
    with pytest.raises(UserError, match=r"int8 loses .* of score on dev.csv, .*more than --max_drop 0.01"):
        beside("score", higher, 0.9, after, 0.01)


def test_without_a_score_there_is_nothing_to_compare(beside):
    with pytest.raises(UserError, match=r"dev.csv: gives no score"):
        beside("score", True, None, 0.5, 0.01)
