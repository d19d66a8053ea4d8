"""What the step loop waits for: the next batch, the call that sends a step, or the device."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Wait:
    """A context whose seconds are added up."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._start, self.seconds = now, 0.0, 0.0

    def __enter__(self) -> None:
        self._start = self._now()

    def __exit__(self, *_: object) -> None:
        self.seconds += self._now() - self._start


class Waits:
    """The seconds of the step loop's thread in its three waits.

    Nothing is synchronised for them. A call of the program returns as soon as its step is in the device's queue, and the
    loop then reads the metrics of the call before, so the device always has a step to work on:

    - `data`: waiting for the next batch on the device. Its steps are late only if `device` is near 0 meanwhile.
    - `dispatch`: calls of the program. On CPUs, a call may wait for the step before it, whose memory it takes over.
    - `device`: waiting for metrics, and for memory. Near 1 without the others: the device, not the host, limits the speed.

    What is left is callbacks and the loop itself.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.data, self.dispatch, self.device = Wait(now), Wait(now), Wait(now)

    def for_data(self, items: Iterable[T]) -> Iterator[T]:
        """The items, each of which is waited for."""
        iterator, end = iter(items), object()
        while True:
            with self.data:
                item = next(iterator, end)
            if item is end:
                return
            yield item  # type: ignore[misc]

    def reset(self) -> None:
        """Start over."""
        for wait in vars(self).values():
            wait.seconds = 0.0

    def shares(self, seconds: float) -> dict[str, float]:
        """The share of each wait in the seconds since the last reset, by its column in metrics.jsonl."""
        return {f"share_{name}": min(1.0, wait.seconds / seconds) for name, wait in vars(self).items()}
