"""Lines that report the progress of work that takes longer than a few seconds."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from jaxft.core import distributed
from jaxft.core.pulse import PULSE

FIRST = 10.0  # seconds until the first reminder; each later one waits twice as long
EVERY = 10.0  # seconds between lines
MANY = 5_000  # work on at least this many rows is announced when it begins
_SILENT: ContextVar[bool] = ContextVar("silent", default=False)


class Progress:
    """Reports how many rows are done: at most one line per 10 s on standard error, from the main process.

    `what` names the work, such as "tokenising train.csv"; `total` is None if the number of rows is unknown.
    """

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total = what, total
        self._start = self._last_line = time.monotonic()
        if total is not None and total >= MANY:
            self._say(f"{total:,} rows")

    def at(self, done: int) -> None:
        """Report that `done` rows are finished, if a line is due."""
        PULSE.beat()
        now = time.monotonic()
        if now - self._last_line < EVERY or done == self.total:
            return
        self._last_line = now
        if self.total is None:
            self._say(f"{done:,} rows")
            return
        left = f", {(self.total - done) / done * (now - self._start):,.0f} s left" if done else ""
        self._say(f"{done:,} of {self.total:,} rows{left}")

    def _say(self, text: str) -> None:
        if not _SILENT.get() and distributed.is_main_process():
            print(f"{self.what}: {text}", file=sys.stderr, flush=True)


@contextmanager
def silent() -> Iterator[None]:
    """A context in which this thread reports no progress: the enclosing work reports it as a whole."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)


def in_steps(what: str, total: int, size: int) -> Iterator[int]:
    """Yield 0, `size`, 2 `size` ... below `total`, and report the progress."""
    progress = Progress(what, total)
    for start in range(0, total, size):
        progress.at(start)
        yield start


@contextmanager
def announced(what: str, say: Callable[[str], None], first: float = FIRST) -> Iterator[None]:
    """Announce work with `say`, and remind at ever longer intervals that it still goes on."""
    say(what)
    done, start = threading.Event(), time.perf_counter()

    def remind() -> None:
        wait = first
        while not done.wait(wait):
            say(f"still {what}, {time.perf_counter() - start:.0f} s so far")
            wait *= 2

    reminder = threading.Thread(target=remind, name="announced", daemon=True)
    reminder.start()
    try:
        yield
    finally:
        done.set()
        reminder.join()
