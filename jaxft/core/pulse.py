"""The pulse of this process: when its run last moved, and what it does; for a watchdog that ends a run that hangs."""

import time


class Pulse:
    """Signs of life of a run's main thread.

    Attributes:
      at: seconds of `time.monotonic` at the last one, which no change of the clock moves.
      phase: of the run (`core.phases`).
      step: the last step whose results are known; 0 before the first.
    """

    def __init__(self) -> None:
        self.at, self.phase, self.step = time.monotonic(), "preparing", 0

    def beat(self, *, phase: str | None = None, step: int | None = None) -> None:
        """Note that the run moves: it has done a step, a batch or some rows, or has come to another phase."""
        self.phase, self.step = phase or self.phase, self.step if step is None else step
        self.at = time.monotonic()


PULSE = Pulse()
