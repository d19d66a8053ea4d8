"""The progress of a run on standard error: a bar on a terminal, lines elsewhere (nohup, Slurm, CI), of the main process."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxft.config import LogConfig
from jaxft.core import distributed
from jaxft.core.phases import Clock
from jaxft.training.callbacks import Callback, End, Evaluation, Step
from jaxft.training.time_left import TimeLeft

# The format of a bar for tqdm. What a narrow terminal cuts off is at the end.
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}, {rate_fmt}]"
_ERASE = "\x1b[K"  # from the cursor to the end of the line


def has_bar(config: LogConfig) -> bool:
    """Whether standard error is a terminal on which a line can be written again."""
    return config.progress and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def named_phases(config: LogConfig, clock: Clock) -> Iterator[None]:
    """A context in which the phase stands at the bottom of a terminal, until a `Display` takes its place.

    The cursor stays at the start of the line, so whatever else is printed replaces it.
    """
    shown = has_bar(config) and distributed.is_main_process()

    def show(phase: str, detail: str) -> None:
        print(f"\r{_named(phase, detail)}{_ERASE}\r", end="", file=sys.stderr, flush=True)

    if shown:
        clock.listener = show
    try:
        yield
    finally:
        if shown:
            clock.listener = lambda *_: None
            print(_ERASE, end="", file=sys.stderr, flush=True)


class Display(Callback):
    """The progress bar of a run, with its phase, and messages above it, or only lines if the output is not a terminal."""

    def __init__(self, config: LogConfig, *, start_step: int, clock: Clock, time_left: TimeLeft) -> None:
        self._active = distributed.is_main_process()
        self._bar: Any = None
        self._speed, self._ended = "", False
        self._lines = config.progress and not has_bar(config)
        self._total, self._left, self._clock = time_left.total_steps, time_left, clock
        if self._active and has_bar(config):
            import tqdm

            options: dict[str, Any] = {"bar_format": BAR, "unit": "step", "dynamic_ncols": True}
            self._bar = tqdm.tqdm(desc="preparing", total=self._total, initial=start_step, **options)
            clock.listener = lambda phase, detail: self._bar.set_description_str(_named(phase, detail))

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if not self._active:
            return
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def on_step(self, step: Step) -> None:
        """Move the bar, or print a line if the step is logged."""
        tokens = None if step.speed is None else step.speed["tokens_per_second"]
        if self._bar is None and not self._lines:
            return
        seconds = self._left.after(step.number)
        left = "" if seconds is None else f"{clock_time(seconds)} left"
        if self._bar is not None:
            if tokens is not None:
                self._speed = f", {tokens:,.0f} tokens/s"
            figures = f"loss {shown_number(step.loss)}, lr {step.learning_rate:.2e}{self._speed}"
            self._bar.set_postfix_str(f"{left}, {figures}" if left else figures, refresh=False)
            self._bar.update(step.number - self._bar.n)
        elif tokens is not None:
            figures = f"loss {shown_number(step.loss)}, learning rate {step.learning_rate:.2e}, {tokens:,.0f} tokens/s"
            self.say(f"step {step.number:,} of {self._total:,}: {figures}{f', {left}' if left else ''}")

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Print the metric that chooses the best model, and the loss."""
        scores, name = evaluation.scores, evaluation.metric
        mark = " (best)" if evaluation.best else ""
        note = f" ({scores['note']})" if "note" in scores else ""
        shown = f"{name} {shown_number(scores[name])}{mark}, loss {shown_number(scores['loss'])}{note}"
        self.say(f"step {evaluation.step}: validation {shown}")
        self._left.evaluated()

    def on_end(self, end: End) -> None:
        """Remember that nothing has stopped the run."""
        self._ended = True

    def close(self) -> None:
        """Leave the bar on the screen."""
        if self._bar is not None:
            self._clock.listener = lambda *_: None
            if self._ended:
                self._bar.set_description_str("done", refresh=False)
            self._bar.close()


def _named(phase: str, detail: str) -> str:
    return f"{phase} {detail}".rstrip()


def clock_time(seconds: float) -> str:
    """A duration in seconds as 1:02:03 or 2:03."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:,}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def shown_number(value: float | None) -> str:
    """A loss or score with four decimals."""
    return "unknown" if value is None else f"{value:.4f}"
