"""The pulse of this process: when its run last moved, and what it does; for a watchdog that ends a run that hangs."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Pulse:
    """Signs of life of a run's main thread.

    Attributes:
      number: of this process in its run.
      at: seconds of `time.monotonic` at the last one, which no change of the clock moves.
      phase: of the run (`core.phases`).
      step: the last step whose results are known; 0 before the first.
      own_seconds: of this process per step, without waiting for the device; None before a step is logged.
      waited: seconds in which this process waited for the others, since it began.
      others: what the other processes of the run last wrote of theirs (`core.watchdog`), by their numbers.
    """

    def __init__(self) -> None:
        self.at, self.phase, self.step = time.monotonic(), "preparing", 0
        self.number = 0
        self.own_seconds: float | None = None
        self.waited = 0.0
        self.others: Mapping[int, Mapping[str, Any]] = {}

    def beat(self, *, phase: str | None = None, step: int | None = None) -> None:
        """Note that the run moves: it has done a step, a batch or some rows, or has come to another phase."""
        self.phase, self.step = phase or self.phase, self.step if step is None else step
        self.at = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A context whose seconds are added to `waited`."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.waited += time.monotonic() - begin


PULSE = Pulse()
