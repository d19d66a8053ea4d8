"""Checkpoints by the clock (`checkpoint.every 10 minutes`)."""

import math
import time
from collections.abc import Callable

from jaxft.core import distributed


class SaveTimer:
    """Tells after each step whether a checkpoint is due because of the time since the last one.

    All processes save after the same step: that at which the clock of the main process says so. Since asking it stops the
    devices for a moment, the others do so only a few times between two checkpoints: after 1, 2, 4 ... steps, and then when
    by the speed so far the time is up.

    Args of the constructor:
      seconds: between two checkpoints; None if none is due by the clock.
      start: steps done when training begins.
      now: the time in seconds.
    """

    def __init__(self, seconds: float | None, start: int, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._now = seconds, now
        self.saved(start)

    def saved(self, step: int) -> None:
        """Begin anew at a checkpoint."""
        self._step, self._time = step, self._now()
        self._ask = step + 1  # the step after which the main process is asked next

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due after this step; call it after every call of the train step, on all processes."""
        if self._seconds is None or step < self._ask:
            return False
        elapsed = self._now() - self._time
        left, done = self._seconds - elapsed, max(1, step - self._step)
        if distributed.process_count() == 1:
            return left <= 0
        steps = min(math.ceil(left * done / max(elapsed, 1e-6)), done) if left > 0 else 0
        steps = distributed.from_main(max(0, steps))
        self._ask = step + steps
        return not steps
