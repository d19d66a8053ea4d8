"""The progress of work on rows on standard error: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from typing import Any

from jaxft.config import LogConfig
from jaxft.core import distributed
from jaxft.core.progress import MANY
from jaxft.core.pulse import PULSE
from jaxft.training.display import BAR, clock_time, has_bar

EVERY = 30.0  # seconds between lines


class RowsDisplay:
    """Shows, from the main process, how many rows are done, how many in a second, and how long the others will take.

    The pace is that since the first report, before which programs are compiled.

    Args of the constructor:
      what: names the work, such as "predicting".
      config: whose `progress` may be off.
      total, done: the number of rows, and of those that an earlier command has done.
    """

    def __init__(self, what: str, config: LogConfig, total: int, done: int = 0) -> None:
        self._what, self._total, self._done = what, total, done
        self._active = config.progress and distributed.is_main_process()
        self._terminal = has_bar(config)
        self._bar: Any = None
        self._first: tuple[int, float] | None = None  # rows and time of the first report
        self._last_line, self._told = time.monotonic(), -1
        if self._active and not self._terminal and total - done >= MANY:
            self._say(f"{total - done:,} rows")

    def at(self, done: int) -> None:
        """Report that `done` rows are finished, an earlier command's included."""
        PULSE.beat()
        if not self._active:
            return
        now = time.monotonic()
        begun, start = self._first = self._first or (done, now)
        pace = (done - begun) / (now - start) if now > start else 0.0
        left = f"{clock_time((self._total - done) / pace)} left" if pace and done < self._total else ""
        if self._terminal:
            self._move_bar(done, left)
        elif now - self._last_line >= EVERY and self._told != done < self._total:
            self._last_line, self._told = now, done
            speed = f", {pace:,.{0 if pace >= 10 else 1}f} rows/s, {left}" if left else ""
            self._say(f"{done:,} of {self._total:,} rows{speed}")

    def close(self) -> None:
        """Leave the bar on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _move_bar(self, done: int, left: str) -> None:
        if self._bar is None:  # not before programs are compiled, which prints lines
            import tqdm

            options: dict[str, Any] = {"bar_format": BAR, "unit": "row", "dynamic_ncols": True}
            self._bar = tqdm.tqdm(desc=self._what, total=self._total, initial=self._done, **options)
        self._bar.set_postfix_str(left, refresh=False)
        self._bar.update(done - self._bar.n)

    def _say(self, text: str) -> None:
        print(f"{self._what}: {text}", file=sys.stderr, flush=True)
