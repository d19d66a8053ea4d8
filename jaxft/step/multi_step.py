"""Several train steps in one call of a program (`runtime.steps_per_execution`).

For a small model, or a head alone, calling the program and transferring a batch takes longer than the step itself. The
option is named as in Keras, which makes the last call of an epoch shorter; here the last steps of an epoch are single calls.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from jaxft.core.errors import UserError
from jaxft.data.batching.batch_sampler import Shape

STEPS_PER_CALL = 8
MAX_EVENTS = 10_000  # events after which `longest` stops searching


class MultiStep(NamedTuple):
    """The arguments of one call of a program: batches of `steps` steps, all of one shape."""

    shape: Shape
    steps: int


@dataclass(frozen=True)
class Calendar:
    """The events that interrupt training: the steps after which a run evaluates, saves, begins an epoch or a stage."""

    total: int  # steps of the run
    epoch: int  # steps per epoch
    evaluate: int | None  # steps between evaluations; None if the run does not evaluate
    save: int  # steps between checkpoints
    stages: tuple[int, ...] = ()  # steps after which a stage of the parameter plan begins

    def evaluates(self, done: int) -> bool:
        """Whether an evaluation is due after step `done`."""
        return self.evaluate is not None and (done % self.evaluate == 0 or done == self.total)

    def evaluations_after(self, done: int) -> int:
        """The number of evaluations that are due after step `done`."""
        if self.evaluate is None or done >= self.total:
            return 0
        return -(-self.total // self.evaluate) - done // self.evaluate

    def saves(self, done: int) -> bool:
        """Whether a checkpoint is due after step `done`."""
        return done % self.save == 0 or done == self.total

    def after(self, done: int) -> int:
        """The step after which the next of these events is due."""
        periods = [n for n in (self.epoch, self.evaluate, self.save) if n is not None]
        return min([self.total, *((done // n + 1) * n for n in periods), *(s for s in self.stages if s > done)])

    @property
    def longest(self) -> int:
        """The largest number of steps between two events; for a very long run, in its first part."""
        done = longest = 0
        bound = min(n for n in (self.total, self.epoch, self.evaluate, self.save) if n is not None)
        for _ in range(MAX_EVENTS):
            if done >= self.total or longest >= bound:
                break
            event = self.after(done)
            longest, done = max(longest, event - done), event
        return longest

    def check(self, steps: int | None) -> None:
        """Raise a UserError unless a call of this number of steps fits between two events."""
        if steps is not None and steps > self.longest:
            raise UserError(
                f"runtime.steps_per_execution {steps}: at most {self.longest} steps lie between evaluations, checkpoints, "
                f"stages and ends of epochs of this run: give {self.longest} or less, or null"
            )


def multi_steps(calendar: Calendar, start: int, steps: int, shape: Callable[[int], Shape]) -> Iterator[range]:
    """The steps of each call, from step `start` on: `steps` of one shape before the next event, or a single one.

    `shape` returns the shape of a step's batch. Other numbers of steps would need more programs. A run resumes at an event,
    so its calls do not depend on how often it was resumed.
    """
    step = start
    while step < calendar.total:
        several = range(step, step + steps)
        fits = several.stop <= calendar.after(step) and all(shape(x) == shape(step) for x in several)
        yield several if fits else range(step, step + 1)
        step += steps if fits else 1
