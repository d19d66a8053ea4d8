"""Which process of a run is slow: the one whose own work between two steps takes longest.

All processes take the same time for a step, because each waits for the others' gradients. What differs is what a process
does itself meanwhile: it waits for its next batch, and calls callbacks. If that takes longer than the step of its device,
all others wait. (A device that is slower than the others cannot be seen here: every process waits for it alike.)
"""

import statistics
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from jaxft.core.pulse import PULSE, Pulse

INTERVALS = 4  # the latest ones, of which the mean is compared
FACTOR, SHARE = 2.0, 0.2  # slow: this many times the median of all, and this share of the time of a step


class Stragglers:
    """Compares the processes whenever a step is logged, by what they have last written on the board of the watchdog.

    Args of the constructor:
      say: prints a line.
      pulse: of this process; a test passes another.
    """

    def __init__(self, say: Callable[[str], None], pulse: Pulse = PULSE) -> None:
        self._say, self._pulse = say, pulse
        self._said: int | None = None
        # Processes read an interval at different times, so that a delay may be in this one of one and the next of another.
        self._latest: deque[float] = deque(maxlen=INTERVALS)

    def compare(self, own: float, step: float) -> dict[str, Any]:
        """The columns of metrics.jsonl: the slowest process, its own seconds per step, and the lower median of all.

        Empty for a single process. A slow process is named in a line, once as long as it is the slowest.

        Args:
          own: seconds of this process per step, without those in which it waited for its device.
          step: seconds per step.
        """
        self._latest.append(own)
        self._pulse.own_seconds = own = statistics.fmean(self._latest)
        others = {n: x for n, x in self._pulse.others.items() if x.get("own_seconds") is not None}
        if not others:
            return {}
        seconds = {self._pulse.number: own, **{n: float(x["own_seconds"]) for n, x in others.items()}}
        slowest = max(seconds, key=lambda n: (seconds[n], -n))
        median = statistics.median_low(seconds.values())
        slow = seconds[slowest] > max(FACTOR * median, SHARE * step)
        if slow and self._said != slowest:
            self._say(_line(slowest, seconds[slowest], median, step, others.get(slowest, {})))
        self._said = slowest if slow else None
        return {"slowest_process": slowest, "slowest_own_seconds": seconds[slowest], "median_own_seconds": median}


def _line(number: int, seconds: float, median: float, step: float, about: Mapping[str, Any]) -> str:
    host = f" on {about['host']}" if "host" in about else ""
    return (
        f"process {number}{host} is slow: data and callbacks take it {seconds:.3g} s of the {step:.3g} s per step; the "
        f"median of all processes is {median:.3g} s"
    )
