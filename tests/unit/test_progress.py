"""Lines about the progress of long work; none for short work."""

import re
import threading
from types import SimpleNamespace

import pytest

from jaxft.core import progress
from jaxft.core.progress import MANY, Progress, announced, in_steps, silent


@pytest.fixture
def clock(monkeypatch):
    """A function that sets the time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def at(seconds: float) -> None:
        now[0] = 100.0 + seconds

    return at


def test_a_line_every_ten_seconds(clock, capsys):
    shown = Progress("tokenising train.csv", 6_000)
    for second in range(0, 30, 3):
        clock(second)
        shown.at(second * 200)
    assert capsys.readouterr().err.splitlines() == [
        "tokenising train.csv: 6,000 rows",
        "tokenising train.csv: 2,400 of 6,000 rows, 18 s left",
        "tokenising train.csv: 4,800 of 6,000 rows, 6 s left",
    ]


def test_little_work_prints_nothing_and_much_work_is_announced(clock, capsys):
    assert list(in_steps("tokenising", 5, 2)) == [0, 2, 4]
    assert capsys.readouterr().err == ""
    Progress("tokenising", MANY)
    assert capsys.readouterr().err == "tokenising: 5,000 rows\n"


def test_the_total_may_be_unknown(clock, capsys):
    shown = Progress("reading", None)
    clock(11)
    shown.at(70_000)
    assert capsys.readouterr().err == "reading: 70,000 rows\n"


def test_silent_parts_of_reported_work_print_nothing(clock, capsys):
    """Also in another thread; the whole is reported."""
    whole = Progress("predicting", 6_000)

    def part() -> None:
        with silent():
            for second, _ in enumerate(in_steps("tokenising", MANY, 1_000)):
                clock(12 * second)

    worker = threading.Thread(target=part)
    worker.start()
    worker.join()
    part()
    whole.at(3_000)
    assert capsys.readouterr().err.splitlines() == [
        "predicting: 6,000 rows",
        "predicting: 3,000 of 6,000 rows, 48 s left",
    ]


def test_only_the_main_process_reports(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress.distributed, "is_main_process", lambda: False)
    shown = Progress("tokenising", MANY)
    clock(11)
    shown.at(1_000)
    assert capsys.readouterr().err == ""


def test_long_work_is_announced_and_reminders_double_their_intervals(monkeypatch):
    said, waits, reminded = [], [], threading.Event()

    class Over(threading.Event):
        """Time passes at once until the third reminder; then the work goes on until it is over."""

        def wait(self, timeout=None):
            waits.append(timeout)
            if len(waits) <= 3:
                return False
            reminded.set()
            return super().wait(60)

    monkeypatch.setattr(progress, "threading", SimpleNamespace(Event=Over, Thread=threading.Thread))
    with announced("compiling a step", said.append, first=10):
        assert reminded.wait(60)
    assert waits == [10, 20, 40, 80]
    assert said[0] == "compiling a step"
    assert len(said) == 4
    assert all(re.fullmatch(r"still compiling a step, \d+ s so far", line) for line in said[1:])
