"""Scores of tasks, by which epochs are drawn: which evaluation counts, and who waits for whom."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from jaxft.run.task_scores import TaskScores


def scores(value: float) -> dict[str, float]:
    return {"a": value, "b": 1 - value}


def test_an_epoch_is_drawn_by_the_last_evaluation_before_the_epoch_before_it():
    found = TaskScores(["a", "b"], 10)
    for step in (4, 10, 16, 20, 30):
        found.add(step, scores(step / 100))
    found.reach(30)
    assert [found.of_epoch(epoch) for epoch in range(5)] == [None, None, (0.1, 0.9), (0.2, 0.8), (0.3, 0.7)]


def test_only_the_last_evaluation_of_an_epoch_is_recorded():
    found = TaskScores(["a", "b"], 10)
    found.add(4, scores(0.1))
    found.add(10, scores(0.2))
    assert found.add(11, scores(0.3)) == [(10, scores(0.2)), (11, scores(0.3))]
    assert found.add(12, {"a": 0.5}) == [(10, scores(0.2)), (11, scores(0.3))], "b has no score"


def test_an_epoch_waits_for_the_loop():
    found, began = TaskScores(["a", "b"], 10), threading.Event()

    def draw():
        began.set()
        return found.of_epoch(3)

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(draw)
        began.wait()
        found.reach(19)
        assert not future.done()
        found.add(20, scores(0.25))
        found.reach(20)
        assert future.result() == (0.25, 0.75)


def test_a_closed_run_waits_for_nothing_and_can_begin_again():
    found = TaskScores(["a", "b"], 10)
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(found.of_epoch, 2)
        found.close()
        with pytest.raises(CancelledError):
            future.result()
    found.begin([[10, scores(0.1)]], 15)  # as JSON has it
    assert found.of_epoch(2) == (0.1, 0.9)
