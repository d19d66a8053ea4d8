"""Lines about what takes long: few, and none about what is short."""

import pytest

from jaxft import progress
from jaxft.progress import MANY, Progress, in_steps


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
        "tokenising train.csv: 2,400 of 6,000 rows, 18 s left",
        "tokenising train.csv: 4,800 of 6,000 rows, 6 s left",
    ]


def test_what_is_short_says_nothing_and_what_is_much_says_so_at_once(clock, capsys):
    assert list(in_steps("tokenising", 5, 2)) == [0, 2, 4]
    assert capsys.readouterr().err == ""
    Progress("tokenising", MANY)
    assert capsys.readouterr().err == "tokenising: 100,000 rows\n"


def test_a_number_that_nobody_knows(clock, capsys):
    shown = Progress("reading", None)
    clock(11)
    shown.at(70_000)
    assert capsys.readouterr().err == "reading: 70,000 rows\n"
