"""What a run says: metrics.jsonl, the progress bar, TensorBoard. Only the main process writes."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxft import runtime
from jaxft.config import LogConfig
from jaxft.errors import UserError

FILE = "metrics.jsonl"


class Journal:
    """Rows of metrics.jsonl, the progress bar and TensorBoard scalars of one run."""

    def __init__(self, directory: Path, config: LogConfig, *, total_steps: int, start_step: int) -> None:
        self.active = runtime.is_main_process()
        self._path = directory / FILE
        self._bar: Any = None
        self._board: Any = None
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

    def progress(self, step: int, **figures: str) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.set_postfix(figures, refresh=False)
            self._bar.update(step - self._bar.n)

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
