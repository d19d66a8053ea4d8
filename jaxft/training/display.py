"""The progress of a run on standard error: a bar on a terminal, lines elsewhere (nohup, Slurm, CI), of the main process."""

import sys
import time
from typing import Any

from jaxft.config import LogConfig
from jaxft.core import distributed
from jaxft.training.callbacks import Callback, Evaluation, Step


class Display(Callback):
    """The progress bar of a run and messages above it, or only lines if the output is not a terminal."""

    def __init__(self, config: LogConfig, *, total_steps: int, start_step: int) -> None:
        self._active = distributed.is_main_process()
        self._bar: Any = None
        self._lines = config.progress and not sys.stderr.isatty()
        self._total = total_steps
        self._first: tuple[int, float] | None = None  # the first step that was shown, and its time
        if self._active and config.progress and sys.stderr.isatty():
            import tqdm

            self._bar = tqdm.tqdm(total=total_steps, initial=start_step, unit="step", dynamic_ncols=True)

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
        if self._bar is not None:
            figures = {"loss": shown_number(step.loss), "lr": f"{step.learning_rate:.2e}"}
            self._bar.set_postfix(figures if tokens is None else figures | {"tokens": f"{tokens:.0f}/s"}, refresh=False)
            self._bar.update(step.number - self._bar.n)
        elif self._lines:
            left = self._time_left(step.number)
            if tokens is not None:
                figures = f"loss {shown_number(step.loss)}, learning rate {step.learning_rate:.2e}, {tokens:,.0f} tokens/s"
                self.say(f"step {step.number:,} of {self._total:,}: {figures}{left}")

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Print the metric that chooses the best model, and the loss."""
        scores, name = evaluation.scores, evaluation.metric
        mark = " (best)" if evaluation.best else ""
        note = f" ({scores['note']})" if "note" in scores else ""
        shown = f"{name} {shown_number(scores[name])}{mark}, loss {shown_number(scores['loss'])}{note}"
        self.say(f"step {evaluation.step}: validation {shown}")

    def close(self) -> None:
        """Leave the bar on the screen as it is."""
        if self._bar is not None:
            self._bar.close()

    def _time_left(self, step: int) -> str:
        """`, 1:02:03 left` by the pace so far; empty at the first step, when the pace is unknown, and at the last."""
        now = time.perf_counter()
        first, start = self._first = self._first or (step, now)
        if not first < step < self._total:
            return ""
        return f", {clock((now - start) / (step - first) * (self._total - step))} left"


def clock(seconds: float) -> str:
    """A duration in seconds as 1:02:03 or 2:03."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:,}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def shown_number(value: float | None) -> str:
    """A loss or score with four decimals."""
    return "unknown" if value is None else f"{value:.4f}"
