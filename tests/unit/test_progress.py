"""Lines about what takes long: few, and none about what is short."""

import threading

import pytest

from jaxft.core import progress
from jaxft.core.progress import MANY, Progress, in_steps, silent


@pytest.fixture
def clock(monkeypatch):
    """Sets the time."""
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


def test_what_is_short_says_nothing_and_what_is_much_says_so_at_once(clock, capsys):
    assert list(in_steps("tokenising", 5, 2)) == [0, 2, 4]
    assert capsys.readouterr().err == ""
    Progress("tokenising", MANY)
    assert capsys.readouterr().err == "tokenising: 5,000 rows\n"


def test_a_number_that_nobody_knows(clock, capsys):
    shown = Progress("reading", None)
    clock(11)
    shown.at(70_000)
    assert capsys.readouterr().err == "reading: 70,000 rows\n"


def test_parts_of_what_is_reported_as_a_whole_say_nothing(clock, capsys):
    """Also in a thread of their own; elsewhere lines go on."""
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
