"""The phases of a run: what its main thread is doing, and for how many seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from jaxft.core.pulse import PULSE

PREPARING, READING, TOKENISING, COMPILING = "preparing", "reading", "tokenising", "compiling"
TEACHING, TRAINING, EVALUATING, SAVING = "teaching", "training", "evaluating", "saving"
PHASES: tuple[str, ...] = (PREPARING, READING, TOKENISING, COMPILING, TEACHING, TRAINING, EVALUATING, SAVING)

Listener = Callable[[str, str], object]  # (phase, detail)


class Clock:
    """Measures the phases of a run. Each moment is in one phase: the one that was entered last and has not ended.

    So compiling that training waits for is not part of training, and the seconds of all phases add up to the time since
    the clock was made. What is in no phase is "preparing": imports, loading the model, frozen features.

    Args of the constructor:
      now: the time in seconds.

    Attributes:
      listener: called with (phase, detail) whenever they change.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now, self._since = now, now()
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._current = (PREPARING, "")
        self.listener: Listener = lambda *_: None

    @contextmanager
    def during(self, phase: str, detail: str = "") -> Iterator[None]:
        """Measure a block of code as a phase; `detail` is shown beside its name, such as "1 of 3"."""
        before = self._current
        self._enter(phase, detail)
        try:
            yield
        finally:
            self._enter(*before)

    def seconds(self, phase: str) -> float:
        """Seconds in a phase until now."""
        current = self._current[0] == phase
        return self._seconds[phase] + (self._now() - self._since if current else 0.0)

    def all_seconds(self) -> dict[str, float]:
        """Seconds in each phase until now."""
        return {phase: self.seconds(phase) for phase in PHASES}

    def _enter(self, phase: str, detail: str) -> None:
        now = self._now()
        self._seconds[self._current[0]] += now - self._since
        self._since, self._current = now, (phase, detail)
        PULSE.beat(phase=phase)
        self.listener(phase, detail)


_CLOCK: ContextVar[Clock | None] = ContextVar("clock", default=None)


@contextmanager
def measured(clock: Clock) -> Iterator[Clock]:
    """A context in which this thread's phases are measured by a clock."""
    token = _CLOCK.set(clock)
    try:
        yield clock
    finally:
        _CLOCK.reset(token)


def clock() -> Clock:
    """The clock that measures this thread; a new one if there is none."""
    return _CLOCK.get() or Clock()


@contextmanager
def phase(name: str, detail: str = "") -> Iterator[None]:
    """A context, or a decorator, that is in a phase of the run if a clock measures this thread.

    Threads in the background have no clock.
    """
    if (own := _CLOCK.get()) is None:
        yield
    else:
        with own.during(name, detail):
            yield
