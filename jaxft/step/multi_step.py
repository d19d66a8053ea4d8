"""Which steps of a run are one call of a program: one, or as many as `runtime.steps_per_execution` says.

A step of a small model, or of a head alone, takes less time than to call its program and to bring it a batch. The option's
name is Keras's; there the last call of an epoch may be shorter, here its steps are single calls.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from jaxft.core.errors import UserError
from jaxft.data.batching.batch_sampler import Shape

STEPS_PER_CALL = 8
LOOKED_AT = 10_000  # events by which the longest time between two is known


class MultiStep(NamedTuple):
    """What a program takes: the batches of so many steps, all of one shape."""

    shape: Shape
    steps: int


@dataclass(frozen=True)
class Calendar:
    """When a run does something else than train, in steps done.

    Attributes:
      total: steps of the run.
      epoch: steps of an epoch, after which the next one is planned.
      evaluate, save: how many steps lie between evaluations (None: there are none) and between checkpoints.
      stages: after which steps another stage of the plan begins.
    """

    total: int
    epoch: int
    evaluate: int | None
    save: int
    stages: tuple[int, ...] = ()

    def evaluates(self, done: int) -> bool:
        """Whether there is an evaluation after so many steps."""
        return self.evaluate is not None and (done % self.evaluate == 0 or done == self.total)

    def saves(self, done: int) -> bool:
        """Whether a checkpoint is due after so many steps."""
        return done % self.save == 0 or done == self.total

    def after(self, done: int) -> int:
        """When the next of all these is."""
        periods = [n for n in (self.epoch, self.evaluate, self.save) if n is not None]
        return min([self.total, *((done // n + 1) * n for n in periods), *(s for s in self.stages if s > done)])

    @property
    def longest(self) -> int:
        """Steps between two events, at most; of a very long run, in its beginning."""
        done = longest = looked_at = 0
        most = min(n for n in (self.total, self.epoch, self.evaluate, self.save) if n is not None)
        while done < self.total and longest < most and looked_at < LOOKED_AT:
            done, before, looked_at = self.after(done), done, looked_at + 1
            longest = max(longest, done - before)
        return longest

    def check(self, steps: int | None) -> None:
        """Refuse calls of so many steps where events leave no room for one.

        Raises:
          UserError: if no two events lie that far apart.
        """
        if steps is not None and steps > self.longest:
            raise UserError(
                f"runtime.steps_per_execution {steps}: at most {self.longest} steps lie between evaluations, checkpoints, "
                f"stages and ends of epochs of this run: give {self.longest} or less, or null"
            )


def multi_steps(calendar: Calendar, start: int, steps: int, shape: Callable[[int], Shape]) -> Iterator[range]:
    """The steps of each call, from step `start` on: so many of one shape before the next event, or a single one.

    Events are the same however often a run is resumed, and it is resumed at one: so are the calls.

    Args:
      calendar: the events.
      start: steps done.
      steps: of a call that is not of a single one; there are no others, since each is a program to compile.
      shape: of a step's batch.
    """
    step = start
    while step < calendar.total:
        several = range(step, step + steps)
        fits = several.stop <= calendar.after(step) and all(shape(x) == shape(step) for x in several)
        yield several if fits else range(step, step + 1)
        step += steps if fits else 1
