"""Lines that say how far something has come that takes longer than a few seconds."""

import sys
import time

EVERY = 10.0  # seconds between lines; what takes less says nothing


class Progress:
    """Says how many of so many are done, at most a line every 10 s on standard error, also where that is a file.

    Args of the constructor:
      what: is being done, such as "tokenising train.csv".
      total: how many there are.
      unit: of what.
    """

    def __init__(self, what: str, total: int, unit: str = "rows") -> None:
        self.what, self.total, self.unit = what, total, unit
        self._start = self._said = time.monotonic()

    def at(self, done: int) -> None:
        """So many are done."""
        now = time.monotonic()
        if now - self._said < EVERY or done >= self.total:
            return
        self._said = now
        rate = done / (now - self._start)
        left = f", {(self.total - done) / rate:,.0f} s left" if rate else ""
        line = f"{self.what}: {done:,} of {self.total:,} {self.unit}, {rate:,.0f} a second{left}"
        print(line, file=sys.stderr, flush=True)
