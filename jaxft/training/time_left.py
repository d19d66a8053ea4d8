"""How long a run will still take: its steps at the measured pace, and its evaluations at their measured duration."""

from jaxft.core.phases import EVALUATING, TRAINING, Clock
from jaxft.step.multi_step import Calendar


class TimeLeft:
    """An estimate from the phases so far, so compiling and saving do not spoil the pace.

    Args of the constructor:
      clock: of the run.
      calendar: its evaluations.
      last: evaluations at the end, in units of those during training: validation data counts 1.
    """

    def __init__(self, clock: Clock, calendar: Calendar, last: float = 0.0) -> None:
        self._clock, self._calendar, self._last = clock, calendar, last
        self._first: tuple[int, float] | None = None  # the first step that was read, and the seconds of training then
        self._evaluations = 0

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self._calendar.total

    def evaluated(self) -> None:
        """Count an evaluation of the validation data, at its end."""
        self._evaluations += 1

    def after(self, step: int) -> float | None:
        """Seconds left when a step has been read; None after the first and the last one.

        Until an evaluation has been measured, only steps are known.
        """
        trained = self._clock.seconds(TRAINING)
        first, start = self._first = self._first or (step, trained)
        if not first < step < self._calendar.total:
            return None
        steps = (trained - start) / (step - first) * (self._calendar.total - step)
        each = self._clock.seconds(EVALUATING) / self._evaluations if self._evaluations else 0.0
        return steps + each * (self._calendar.evaluations_after(step) + self._last)
