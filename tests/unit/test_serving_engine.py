"""The engine of a server: which requests run together, in which order, and what a failure of one does."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from jaxft.core.ragged import offsets_of
from jaxft.data.batching.collect import Summary
from jaxft.data.tokens.encode import Examples
from jaxft.pipelines.base import Encoded
from jaxft.serving import joined
from jaxft.serving.engine import Engine, Job
from jaxft.serving.meter import Meter


def examples(*texts: list[int]) -> Examples:
    ids = np.array([x for text in texts for x in text], np.int32)
    return Examples({"input_ids": ids}, offsets_of([len(x) for x in texts]), {"length": np.array([len(x) for x in texts])})


class Sums:
    """A pipeline whose result is the sum of a text's tokens; it waits at `gate` before it runs, and notes its batches."""

    def __init__(self, fails: int | None = None) -> None:
        self.gate, self.batches, self.fails = threading.Event(), [], fails

    def forward(self, given: Examples) -> Summary:
        assert self.gate.wait(10)
        ids = given.tokens["input_ids"]
        self.batches.append(ids.tolist())
        if self.fails in ids:
            raise ValueError(f"{self.fails} cannot be added")
        sums = np.add.reduceat(ids, given.offsets[:-1])
        return Summary(examples={"sum": sums}, tokens={"ids": ids})

    def decode(self, summary, encoded, options):
        assert summary.tokens["ids"].tolist() == encoded.examples.tokens["input_ids"].tolist()
        for x in summary.examples["sum"].tolist():
            if x == options.get("refused"):
                raise ValueError(f"{x} is refused")
            yield x


@pytest.fixture
def engine():
    made = Engine(8, Meter())
    yield made
    made.close()


def job(pipeline, *texts, **options) -> Job:
    return Job(pipeline, Encoded(examples(*texts)), options)


def held(engine, pipeline) -> Job:
    """A job that has begun, and waits at the gate."""
    first = job(pipeline, [100])
    engine.submit(first)
    while not first.future.running():
        time.sleep(0.001)
    return first


def test_parts_come_back_as_they_went_in():
    parts = [examples([1, 2], [3]), examples([4, 5, 6])]
    whole = joined.join(parts)
    assert whole.offsets.tolist() == [0, 2, 3, 6]
    assert whole.columns["length"].tolist() == [2, 1, 3]
    summary = Summary(examples={"x": np.arange(3)}, tokens={"y": np.arange(6)})
    found = joined.split(summary, parts)
    assert [x.examples["x"].tolist() for x in found] == [[0, 1], [2]]
    assert [x.tokens["y"].tolist() for x in found] == [[0, 1, 2], [3, 4, 5]]


def test_what_waits_runs_together_within_the_tokens(engine):
    pipeline = Sums()
    first = held(engine, pipeline)
    jobs = [job(pipeline, [1, 2], [3]), job(pipeline, [4, 5, 6]), job(pipeline, [7, 8, 9]), job(pipeline, [10])]
    for each in jobs:
        engine.submit(each)
    pipeline.gate.set()
    assert first.future.result(5) == [100]
    assert [x.future.result(5) for x in jobs] == [[3, 3], [15], [24], [10]]
    assert pipeline.batches == [[100], [1, 2, 3, 4, 5, 6], [7, 8, 9, 10]]


def test_a_job_larger_than_the_tokens_runs_alone(engine):
    pipeline = Sums()
    first = held(engine, pipeline)
    large = job(pipeline, list(range(20)))
    engine.submit(large)
    engine.submit(after := job(pipeline, [1]))
    pipeline.gate.set()
    assert large.future.result(5) == [190]
    assert after.future.result(5) == [1]
    assert [len(x) for x in pipeline.batches] == [1, 20, 1]
    assert first.future.done()


def test_jobs_of_another_pipeline_wait_for_their_turn(engine):
    one, other = Sums(), Sums()
    other.gate.set()
    held(engine, one)
    jobs = [job(one, [1]), job(other, [2]), job(one, [3])]
    for each in jobs:
        engine.submit(each)
    one.gate.set()
    assert [x.future.result(5) for x in jobs] == [[1], [2], [3]]
    assert one.batches == [[100], [1, 3]]
    assert other.batches == [[2]]


def test_a_cancelled_job_leaves_the_queue(engine):
    pipeline = Sums()
    held(engine, pipeline)
    gone, stays = job(pipeline, [1]), job(pipeline, [2])
    engine.submit(gone)
    engine.submit(stays)
    assert gone.future.cancel()
    pipeline.gate.set()
    assert stays.future.result(5) == [2]
    assert pipeline.batches == [[100], [2]]


def test_a_failure_of_the_model_ends_its_batch_alone(engine):
    pipeline = Sums(fails=7)
    pipeline.gate.set()
    with pytest.raises(ValueError, match="7 cannot be added"):
        engine.submit(job(pipeline, [7])).result(5)
    assert engine.submit(job(pipeline, [8])).result(5) == [8]


def test_an_option_that_is_wrong_for_one_leaves_the_others(engine):
    pipeline = Sums()
    held(engine, pipeline)
    wrong, right = job(pipeline, [1], refused=1), job(pipeline, [1], refused=2)
    engine.submit(wrong)
    engine.submit(right)
    pipeline.gate.set()
    assert right.future.result(5) == [1]
    with pytest.raises(ValueError, match="1 is refused"):
        wrong.future.result(5)
    assert pipeline.batches == [[100], [1, 1]]


def test_closing_runs_what_waits_first():
    pipeline = Sums()
    made = Engine(8, Meter())
    first = held(made, pipeline)
    last = job(pipeline, [2])
    made.submit(last)
    closing = threading.Thread(target=made.close)
    closing.start()
    pipeline.gate.set()
    closing.join(5)
    assert first.future.result(0) == [100]
    assert last.future.result(0) == [2]
    with pytest.raises(RuntimeError):
        made.submit(SimpleNamespace())
