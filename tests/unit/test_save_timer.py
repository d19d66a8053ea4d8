"""Checkpoints by the clock: at the first step after the time is up, in all processes, whatever their own clocks say."""

import pytest

from jaxft.core import distributed
from jaxft.training.save_timer import SaveTimer


def saved(seconds: float | None, step_seconds: float, steps: int, start: int = 0) -> list[int]:
    """The steps after which a run saves whose steps take equally long."""
    now = [100.0]
    timer, found = SaveTimer(seconds, start, lambda: now[0]), []
    for step in range(start + 1, steps + 1):
        now[0] += step_seconds
        if timer.due(step):
            found.append(step)
            timer.saved(step)
    return found


@pytest.mark.parametrize(
    ("seconds", "step_seconds", "expected"),
    [(600, 100, [6, 12, 18]), (600, 250, [3, 6, 9, 12, 15, 18]), (1, 5, [*range(1, 21)]), (None, 100, []), (1e9, 1, [])],
)
def test_a_checkpoint_is_due_when_the_time_is_up(seconds, step_seconds, expected):
    assert saved(seconds, step_seconds, 20) == expected


def test_the_time_begins_with_the_start_and_with_each_checkpoint():
    assert saved(300, 100, 1007, start=1000) == [1003, 1006]
    timer = SaveTimer(10, 0, lambda: 0.0)
    timer.saved(4)
    assert not timer.due(5)


@pytest.mark.parametrize("step_seconds", [0.01, 0.37, 40, 700])
def test_several_processes_ask_seldom_and_save_together_in_time(monkeypatch, step_seconds):
    answers: list[int] = []

    def from_main(value: int) -> int:
        answers.append(value)
        return value

    monkeypatch.setattr(distributed, "process_count", lambda: 2)
    monkeypatch.setattr(distributed, "from_main", from_main)
    main = saved(600, step_seconds, 200_000)
    first = max(600, step_seconds)
    assert main[0] * step_seconds == pytest.approx(first, rel=0.02, abs=step_seconds)
    assert len(answers) <= 20 * len(main) + 20
    asked = iter([*answers])
    monkeypatch.setattr(distributed, "from_main", lambda value: next(asked))
    assert saved(600, step_seconds * 1.7, 200_000) == main  # the clock of another process goes wrong
