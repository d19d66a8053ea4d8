"""The display of a run's progress: a bar on a terminal, lines elsewhere."""

import sys

import pytest

from jaxft.config import LogConfig
from jaxft.training import display
from jaxft.training.callbacks import Step
from jaxft.training.display import Display


@pytest.fixture
def clock(monkeypatch):
    """The time, which the test sets."""
    now = [100.0]
    monkeypatch.setattr(display.time, "perf_counter", lambda: now[0])
    return now


def step(number: int, *, loss: float, rate: float, tokens: float | None = None) -> Step:
    speed = None if tokens is None else {"examples_per_second": 1.0, "tokens_per_second": tokens}
    return Step(number, 0.0, loss, rate, 1.0, speed)


def test_without_a_terminal_there_are_lines(capsys, clock):
    """A line whenever the speed is known, with the time left at the pace since the first step."""
    shown = Display(LogConfig(), total_steps=2000, start_step=0)
    shown.on_step(step(1, loss=0.7, rate=1e-5))
    for number, seconds in ((501, 2000), (1001, 4000), (2000, 7996)):
        clock[0] = 100.0 + seconds
        shown.on_step(step(number, loss=0.25, rate=2e-5, tokens=12345.6))
    shown.close()
    figures = "loss 0.2500, learning rate 2.00e-05, 12,346 tokens/s"
    assert capsys.readouterr().err.splitlines() == [
        f"step 501 of 2,000: {figures}, 1:39:56 left",
        f"step 1,001 of 2,000: {figures}, 1:06:36 left",
        f"step 2,000 of 2,000: {figures}",
    ]


def test_the_first_line_has_no_time_left(capsys):
    shown = Display(LogConfig(), total_steps=20, start_step=9)
    shown.on_step(step(10, loss=0.5, rate=0.1, tokens=7))
    shown.close()
    assert capsys.readouterr().err == "step 10 of 20: loss 0.5000, learning rate 1.00e-01, 7 tokens/s\n"


def test_there_are_no_lines_with_progress_off(capsys):
    shown = Display(LogConfig(progress=False), total_steps=20, start_step=0)
    shown.on_step(step(10, loss=0.5, rate=0.1, tokens=7))
    shown.close()
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown = Display(LogConfig(), total_steps=20, start_step=0)
    shown.on_step(step(10, loss=0.5, rate=0.1, tokens=7))
    shown.close()
    text = capsys.readouterr().err
    assert "10/20" in text
    assert "step 10 of 20" not in text
