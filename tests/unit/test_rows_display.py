"""The progress of work on rows: a bar on a terminal, elsewhere a line every 30 s, and nothing if nobody wants it."""

import sys

import pytest

from jaxft.config import LogConfig
from jaxft.training import rows_display
from jaxft.training.rows_display import RowsDisplay


@pytest.fixture
def reported(monkeypatch):
    """What is on standard error after reports of (seconds, rows)."""
    now = [0.0]
    monkeypatch.setattr(rows_display.time, "monotonic", lambda: now[0])

    def run(capsys, config: LogConfig, *reports: tuple[float, int], done: int = 0) -> str:
        now[0] = 100.0
        shown = RowsDisplay("predicting", config, 9_000, done)
        for seconds, rows in reports:
            now[0] = 100.0 + seconds
            shown.at(rows)
        shown.close()
        return capsys.readouterr().err

    return run


def test_lines_have_the_pace_since_the_first_report(capsys, reported):
    """Not that of an earlier command, nor of what came before, such as compiling."""
    lines = reported(capsys, LogConfig(), (20, 3_000), (29, 3_090), (31, 3_110), (60, 3_200), (620, 9_000), done=3_000)
    assert lines.splitlines() == ["predicting: 6,000 rows", "predicting: 3,110 of 9,000 rows, 10 rows/s, 9:49 left"]


def test_a_terminal_has_a_bar(capsys, reported, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    shown = reported(capsys, LogConfig(), (0, 0), (10, 4_500), (20, 9_000)).split("\r")[-1]
    assert shown.startswith("predicting: 100%|")
    assert "9000/9000" in shown


def test_nothing_is_shown_if_nobody_wants_it(capsys, reported):
    assert reported(capsys, LogConfig(progress=False), (20, 3_000), (60, 4_000)) == ""
