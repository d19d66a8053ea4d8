"""A side's half of an interleaved measurement: it trains a window of steps when told to, and says what it took.

Only the standard library: the process may run in an environment of its own.
"""

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks import versions

START = time.perf_counter()
MARK = "@ "  # begins the lines that are answers


class Done(Exception):
    """Nobody asks for windows any more."""


class Windows:
    """Call `tick` before every step (or call of several), and `count` what it trains on."""

    def __init__(
        self,
        steps: int,
        warm: int,
        wait: Callable[[], Any],
        peak: Callable[[], int] | None = None,
        compiling: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """So many steps a window, after a few that do not count; `wait` returns when all that was dispatched is done, `peak`
        the most bytes held so far, where it is not the process's memory that counts, `compiling` the seconds spent on it."""
        self.steps, self.warm, self.wait, self.peak, self.compiling = steps, warm, wait, peak or _resident, compiling
        self.counts: Counter[str] = Counter()
        self.done = 0
        self.start = 0.0

    def tick(self) -> None:
        """Raises `Done` at the end of the last window."""
        step, self.done = self.done, self.done + 1
        if step == 1:
            self.wait()
            seconds = round(time.perf_counter() - START, 2)
            say(first_step_seconds=seconds, compile_seconds=self.compiling(), versions=versions.installed())
        if step < self.warm or (step - self.warm) % self.steps:
            return
        self.wait()
        seconds = time.perf_counter() - self.start
        if step > self.warm:
            say(seconds=seconds, peak_bytes=self.peak(), **self.counts)
        else:
            say(ready=True)
        if not sys.stdin.readline():
            raise Done
        self.counts.clear()
        self.start = time.perf_counter()

    def count(self, **numbers: int) -> None:
        """Examples, real tokens, computed positions of the step to come."""
        self.counts.update(numbers)


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(**answer: Any) -> None:
    """An answer to whoever asks for windows."""
    print(MARK + json.dumps(answer), flush=True)
