"""What a run says where there is no terminal: how far it is, and what takes long."""

import re
import sys
import time

import pytest

from jaxft.config import LogConfig
from jaxft.core.progress import announced
from jaxft.training import journal


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [100.0]
    monkeypatch.setattr(journal.time, "perf_counter", lambda: now[0])
    return now


def test_lines_stand_in_for_the_bar(tmp_path, capsys, clock):
    """A line wherever a rate is known, with the time left by the pace since the first step."""
    written = journal.Journal(tmp_path, LogConfig(), total_steps=2000, start_step=0)
    written.progress(1, loss=0.7, rate=1e-5)
    for step, seconds in ((501, 2000), (1001, 4000), (2000, 7996)):
        clock[0] = 100.0 + seconds
        written.progress(step, loss=0.25, rate=2e-5, tokens=12345.6)
    written.close()
    figures = "loss 0.2500, learning rate 2.00e-05, 12,346 tokens/s"
    assert capsys.readouterr().err.splitlines() == [
        f"step 501 of 2,000: {figures}, 1:39:56 left",
        f"step 1,001 of 2,000: {figures}, 1:06:36 left",
        f"step 2,000 of 2,000: {figures}",
    ]


def test_the_first_step_knows_no_pace(tmp_path, capsys):
    written = journal.Journal(tmp_path, LogConfig(), total_steps=20, start_step=9)
    written.progress(10, loss=0.5, rate=0.1, tokens=7)
    written.close()
    assert capsys.readouterr().err == "step 10 of 20: loss 0.5000, learning rate 1.00e-01, 7 tokens/s\n"


def test_no_lines_where_none_are_wanted(tmp_path, capsys):
    written = journal.Journal(tmp_path, LogConfig(progress=False), total_steps=20, start_step=0)
    written.progress(10, loss=0.5, rate=0.1, tokens=7)
    written.close()
    assert capsys.readouterr().err == ""


def test_a_terminal_has_the_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    written = journal.Journal(tmp_path, LogConfig(), total_steps=20, start_step=0)
    written.progress(10, loss=0.5, rate=0.1, tokens=7)
    written.close()
    shown = capsys.readouterr().err
    assert "10/20" in shown
    assert "step 10 of 20" not in shown


def test_what_takes_long_is_announced_and_reminded_of():
    said = []
    with announced("compiling a step", said.append, first=0.01):
        assert said == ["compiling a step"]
        time.sleep(0.2)
    count = len(said)
    assert 2 <= count <= 6  # 0.01, 0.02, 0.04, 0.08 s apart
    assert all(re.fullmatch(r"still compiling a step, \d s so far", line) for line in said[1:])
    time.sleep(0.05)
    assert len(said) == count
