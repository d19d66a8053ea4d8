"""What a run says: metrics.jsonl, the progress bar or lines in its place, TensorBoard. Only the main process writes."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxft.config import LogConfig
from jaxft.core import distributed
from jaxft.core.errors import UserError

FILE = "metrics.jsonl"


class Journal:
    """Rows of metrics.jsonl, the progress bar and TensorBoard scalars of one run.

    Where the output is no terminal (nohup, Slurm, CI) a line in the log takes the place of the bar.
    """

    def __init__(self, directory: Path, config: LogConfig, *, total_steps: int, start_step: int) -> None:
        self.active = distributed.is_main_process()
        self._path = directory / FILE
        self._bar: Any = None
        self._board: Any = None
        self._lines = config.progress and not sys.stderr.isatty()
        self._pace = Pace(total_steps)
        if not self.active:
            return
        rewind(self._path, start_step)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (open as long as the run)
        if config.progress and sys.stderr.isatty():
            import tqdm

            self._bar = tqdm.tqdm(total=total_steps, initial=start_step, unit="step", dynamic_ncols=True)
        if config.tensorboard:
            import tensorboardX

            self._board = tensorboardX.SummaryWriter(str(directory / "tensorboard"), purge_step=start_step + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; it has at least `step`."""
        if not self.active:
            return
        rounded = {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in row.items()}
        try:
            self._file.write(json.dumps(rounded) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}") from error
        if self._board:
            for name, value in row.items():
                if isinstance(value, float):
                    self._board.add_scalar(name, value, row["step"])

    def progress(self, step: int, *, loss: float | None, rate: float, tokens: float | None = None) -> None:
        """Move the bar; without a terminal say where the run is, at steps whose `tokens` a second are known."""
        shown = "unknown" if loss is None else f"{loss:.4f}"
        if self._bar is not None:
            figures = {"loss": shown, "lr": f"{rate:.2e}"}
            self._bar.set_postfix(figures if tokens is None else figures | {"tokens": f"{tokens:.0f}/s"}, refresh=False)
            self._bar.update(step - self._bar.n)
        elif self._lines:
            left = self._pace.left(step)
            if tokens is not None:
                figures = f"loss {shown}, learning rate {rate:.2e}, {tokens:,.0f} tokens/s"
                self.say(f"step {step:,} of {self._pace.total:,}: {figures}{left}")

    def say(self, text: str) -> None:
        """A line for people, above the bar."""
        if not self.active:
            return
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Flush and close everything."""
        if self._bar is not None:
            self._bar.close()
        if self._board:
            self._board.close()
        if self.active:
            self._file.close()


def rewind(path: Path, step: int) -> None:
    """Drop the rows after `step` and the final one: a resumed run writes them again. Lines that are no row go too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
            if row.get("step", 0) <= step and not row.get("final"):
                kept.append(line + b"\n")
        except (ValueError, TypeError, AttributeError, RecursionError):  # no JSON, no object, no number
            continue
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(b"".join(kept))
    os.replace(temporary, path)


class Pace:
    """How long a run still takes, evaluations and checkpoints included, by its pace since the first step it was asked of."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._first: tuple[int, float] | None = None

    def left(self, step: int) -> str:
        """`, 1:02:03 left`; empty at the first step, whose pace is unknown, and at the last."""
        now = time.perf_counter()
        first, start = self._first = self._first or (step, now)
        if not first < step < self.total:
            return ""
        return f", {clock((now - start) / (step - first) * (self.total - step))} left"


def clock(seconds: float) -> str:
    """A duration as hours, minutes and seconds: 1:02:03, or 2:03."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:,}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


class Meter:
    """Examples and real tokens a second since the last reading."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start over (after an evaluation or a checkpoint, whose time is not training's)."""
        self._start = time.perf_counter()
        self._examples = self._tokens = 0

    def add(self, examples: int, tokens: int) -> None:
        """Count a step."""
        self._examples += examples
        self._tokens += tokens

    def read(self) -> dict[str, float]:
        """`examples_per_second` and `tokens_per_second`, and start over."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        rates = {"examples_per_second": self._examples / seconds, "tokens_per_second": self._tokens / seconds}
        self.reset()
        return rates
