"""One side of a measurement in turn: it trains a window of steps on request and reports what that took.

It needs only the standard library, because the process may run in another environment.
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
    """No more windows are requested."""


class Windows:
    """Call `tick` before each step (or call of several steps), then `count` what it trains on."""

    def __init__(
        self,
        steps: int,
        warm: int,
        wait: Callable[[], Any],
        peak: Callable[[], int] | None = None,
        compiling: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Prepare windows.

        Args:
          steps: steps per window.
          warm: steps before the first window.
          wait: returns when all dispatched steps are done.
          peak: the peak of the device's memory so far, in bytes; by default that of the process.
          compiling: the seconds of compilation so far.
        """
        self.steps, self.warm, self.wait, self.peak, self.compiling = steps, warm, wait, peak or _resident, compiling
        self.counts: Counter[str] = Counter()
        self.done = 0
        self.start = 0.0

    def tick(self) -> None:
        """Begin a step; at the end of a window, report it and wait for the next request.

        Raises:
          Done: after the last window.
        """
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
        """Add the examples, real tokens and computed positions of the next step."""
        self.counts.update(numbers)


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(**answer: Any) -> None:
    """Print an answer for the process that requests windows."""
    print(MARK + json.dumps(answer), flush=True)
