"""The display of a run's progress: a bar on a terminal, lines elsewhere, and the time left."""

import sys

import pytest

from jaxft.config import LogConfig
from jaxft.core.phases import COMPILING, EVALUATING, READING, TRAINING, Clock
from jaxft.step.multi_step import Calendar
from jaxft.training.callbacks import End, Step
from jaxft.training.display import Display, named_phases
from jaxft.training.time_left import TimeLeft


class Fake:
    """A clock whose time the test sets, and a display that uses it."""

    def __init__(
        self, config: LogConfig, *, total: int, start: int = 0, evaluate: int | None = None, last: float = 0
    ) -> None:
        self.now = 100.0
        self.clock = Clock(lambda: self.now)
        calendar = Calendar(total, total, evaluate, total)
        self.left = TimeLeft(self.clock, calendar, last)
        self.display = Display(config, start_step=start, clock=self.clock, time_left=self.left)

    def spend(self, phase: str, seconds: float) -> None:
        with self.clock.during(phase):
            self.now += seconds


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, kind: str = "xterm", columns: int = 120) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setenv("COLUMNS", str(columns))


def step(number: int, *, loss: float = 0.5, rate: float = 0.1, tokens: float | None = 7) -> Step:
    speed = None if tokens is None else {"examples_per_second": 1.0, "tokens_per_second": tokens}
    return Step(number, 0.0, loss, rate, 1.0, speed)


def test_without_a_terminal_there_are_lines(capsys):
    """A line whenever the speed is known, with the time left at the pace since the first step."""
    shown = Fake(LogConfig(), total=2000)
    shown.display.on_step(step(1, loss=0.7, rate=1e-5, tokens=None))
    for number, seconds in ((501, 2000), (1001, 2000), (2000, 3996)):
        shown.spend(TRAINING, seconds)
        shown.display.on_step(step(number, loss=0.25, rate=2e-5, tokens=12345.6))
    shown.display.close()
    figures = "loss 0.2500, learning rate 2.00e-05, 12,346 tokens/s"
    assert capsys.readouterr().err.splitlines() == [
        f"step 501 of 2,000: {figures}, 1:39:56 left",
        f"step 1,001 of 2,000: {figures}, 1:06:36 left",
        f"step 2,000 of 2,000: {figures}",
    ]


def test_the_first_line_has_no_time_left(capsys):
    Fake(LogConfig(), total=20, start=9).display.on_step(step(10))
    assert capsys.readouterr().err == "step 10 of 20: loss 0.5000, learning rate 1.00e-01, 7 tokens/s\n"


def test_there_are_no_lines_with_progress_off(capsys):
    Fake(LogConfig(progress=False), total=20).display.on_step(step(10))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("evaluate", "to_come"), [(None, 0), (10, 3), (12, 4), (50, 1)])
def test_the_time_left_is_steps_without_compiling_and_evaluations_to_come(evaluate, to_come):
    """Of 40 steps: 2 s a step; evaluations take 5 s, and those at the end as long as 1.5 of them."""
    shown = Fake(LogConfig(progress=False), total=40, evaluate=evaluate, last=1.5)
    shown.spend(COMPILING, 300)
    assert shown.left.after(1) is None
    shown.spend(TRAINING, 8)
    shown.spend(COMPILING, 100)
    shown.spend(TRAINING, 10)
    assert shown.left.after(10) == pytest.approx(2 * 30)
    shown.spend(EVALUATING, 5)
    shown.left.evaluated()
    assert shown.left.after(10) == pytest.approx(2 * 30 + 5 * (to_come + 1.5))
    assert shown.left.after(40) is None


def test_a_terminal_has_a_bar_with_the_phase_and_the_time_left(capsys, monkeypatch):
    on_a_terminal(monkeypatch)
    shown = Fake(LogConfig(), total=20)
    shown.display._bar.mininterval = 0
    with shown.clock.during(COMPILING, "1 of 3"):
        assert "compiling 1 of 3:   0%|" in capsys.readouterr().err
    with shown.clock.during(TRAINING):
        shown.display.on_step(step(1))
        shown.now += 9
        shown.display.on_step(step(10))
        text = capsys.readouterr().err
        assert "training:  50%|" in text
        assert ", 0:10 left, loss 0.5000, lr 1.00e-01, 7 tokens/s, " in text
    shown.display.on_end(End(20, 20, {}))
    shown.display.close()
    assert "step 10 of 20" not in text
    assert "done:  50%|" in capsys.readouterr().err
    shown.spend(EVALUATING, 1)
    assert capsys.readouterr().err == ""


def test_a_terminal_of_eighty_columns_shows_the_time_left(capsys, monkeypatch):
    on_a_terminal(monkeypatch, columns=80)
    shown = Fake(LogConfig(), total=200_000)
    shown.display._bar.mininterval = 0
    with shown.clock.during(EVALUATING):
        for number, seconds in ((1, 1), (100_001, 20_000)):
            shown.spend(TRAINING, seconds)
            shown.display.on_step(step(number, tokens=123_456))
    assert "5:33:20 left, loss 0.5000" in capsys.readouterr().err


def test_a_dumb_terminal_has_lines(capsys, monkeypatch):
    on_a_terminal(monkeypatch, "dumb")
    shown = Fake(LogConfig(), total=20)
    with named_phases(LogConfig(), shown.clock), shown.clock.during(READING):
        shown.display.on_step(step(10))
    assert capsys.readouterr().err == "step 10 of 20: loss 0.5000, learning rate 1.00e-01, 7 tokens/s\n"


def test_before_the_bar_the_phase_is_at_the_start_of_a_line_that_anything_replaces(capsys, monkeypatch):
    on_a_terminal(monkeypatch)
    clock = Clock()
    with named_phases(LogConfig(), clock), clock.during(READING):
        assert capsys.readouterr().err == "\rreading\x1b[K\r"
    assert capsys.readouterr().err.endswith("\x1b[K")
    with named_phases(LogConfig(progress=False), clock), clock.during(READING):
        assert capsys.readouterr().err == ""
