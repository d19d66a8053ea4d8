"""Which examples of several tasks an epoch has, and which share a step.

Each task goes through its examples in passes, each in an order of its own, and an epoch takes up where the one before ended.
How many an epoch takes is said by the shares of the tasks, so it is a function of (seed, epoch, shares).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxft.config.several import Sampler
from jaxft.core.random_streams import OfSeed, host_generator
from jaxft.data.batching.batch_sampler import interleaved, stratified

ANNEALED_BY = 0.8  # the exponent of the annealed sampler falls from 1 by this
LEAST = 0.01  # what a task with a perfect score counts as, so that it is not forgotten


@dataclass(frozen=True)
class Shares:
    """The share of each task in an epoch.

    Attributes:
      sampler: as in `config.several.SamplingConfig`, with its options `temperature` and `cap`.
      sizes: examples of each task.
      given: the shares of the sampler `shares`, which need not add up to 1.
      epochs: of the run.
      qualities: of the sampler `validation`: from the number of an epoch to the quality of each task, from 0 to 1, by which
        it is drawn; None if none is known yet. It may wait for an evaluation.
    """

    sampler: Sampler
    sizes: tuple[int, ...]
    temperature: float = 1.0
    cap: int | None = None
    given: tuple[float, ...] = ()
    epochs: int = 1
    qualities: Callable[[int], Sequence[float] | None] | None = None

    @property
    def vary(self) -> bool:
        """Whether shares differ between epochs."""
        return self.sampler in ("annealed", "validation")

    def of_epoch(self, epoch: int, *, expected: bool = False) -> np.ndarray:
        """The shares in an epoch, float64 [tasks], whose sum is 1.

        With `expected`, nothing is waited for: tasks that are drawn by evaluations have the shares that they begin with.
        """
        shares = self._of_epoch(epoch, expected)
        shares = shares / shares.max()  # the sum of the largest floats would be infinite
        return shares / shares.sum()

    def _of_epoch(self, epoch: int, expected: bool) -> np.ndarray:
        sizes = np.asarray(self.sizes, np.float64)
        if self.sampler == "temperature":
            capped = np.minimum(sizes, self.cap or np.inf)
            return (capped / capped.max()) ** (1 / self.temperature)  # a power of many examples would be infinite
        if self.sampler == "annealed":
            return sizes ** (1 - ANNEALED_BY * min(1.0, epoch / max(1, self.epochs - 1)))
        if self.sampler == "round_robin":
            return np.ones_like(sizes)
        if self.sampler == "shares":
            return np.asarray(self.given, np.float64)
        if self.sampler == "validation" and self.qualities and not expected:
            known = self.qualities(epoch)
            return sizes if known is None else np.maximum(1 - np.asarray(known, np.float64), LEAST)
        return sizes


@dataclass(frozen=True)
class TaskOrders:
    """The orders of the epochs of a run of several tasks, all of whose steps are full.

    Attributes:
      lengths: tokens of each example, int64 [N]; the examples of a task follow one another.
      batch_size: examples per step, N at most.
      seed: of the orders.
      shares: of the tasks.
      mixed: whether a step has examples of all tasks, equally many in all steps of an epoch; otherwise it is of one task.
    """

    lengths: np.ndarray
    batch_size: int
    seed: int
    shares: Shares
    mixed: bool

    @property
    def steps(self) -> int:
        """Steps of an epoch: as many as all examples fill."""
        return -(-len(self.lengths) // self.batch_size)

    def counts(self, epoch: int, *, expected: bool = False) -> np.ndarray:
        """Examples per step, or steps, of each task in an epoch, int64 [tasks]; `expected` as in `Shares.of_epoch`."""
        if self.shares.sampler == "round_robin":
            return self._in_turn(epoch + 1) - self._in_turn(epoch)
        shares = self.shares.of_epoch(epoch, expected=expected)
        return apportioned(self._total, shares, least=1 if self._total >= len(shares) else 0)

    @property
    def _total(self) -> int:
        """What the tasks divide: the examples of a step, or the steps of an epoch."""
        return self.batch_size if self.mixed else self.steps

    def _in_turn(self, epoch: int) -> np.ndarray:
        """The sums of the counts of all epochs before one, if tasks take turns, which go on from one epoch to the next."""
        tasks = len(self.shares.sizes)
        return -(-(epoch * self._total - np.arange(tasks)) // tasks)

    def order(self, epoch: int, *, expected: bool = False) -> np.ndarray:
        """The examples of an epoch in training order, int64 [steps * batch_size]; `expected` as in `Shares.of_epoch`."""
        counts = self.counts(epoch, expected=expected)
        factor = self.steps if self.mixed else self.batch_size
        begins = self._begins(epoch, expected) * factor
        ends = np.cumsum([0, *self.shares.sizes])
        # In ascending order, so that a pass over all examples gives the batches of a run of this task alone.
        chosen = [
            ends[task] + np.sort(self._pass(task, int(begins[task]), int(counts[task]) * factor))
            for task in range(len(counts))
        ]
        rng = host_generator(self.seed, epoch)
        if self.mixed:
            every = np.concatenate(chosen)
            parts = tuple((int(count) * factor, int(count)) for count in counts if count)
            return every[interleaved(self.lengths[every], parts, rng)]
        steps = [own[stratified(self.lengths[own], factor, rng)].reshape(-1, factor) for own in chosen]
        places = np.cumsum([0, *counts[:-1]])
        turns = np.concatenate(steps)
        return turns[self._turns(counts, places, epoch)].ravel()

    def _begins(self, epoch: int, expected: bool) -> np.ndarray:
        """The sums of `counts` of all earlier epochs."""
        if self.shares.sampler == "round_robin":
            return self._in_turn(epoch)
        if not self.shares.vary:
            return epoch * self.counts(0)
        zero = np.zeros(len(self.shares.sizes), np.int64)
        return sum((self.counts(before, expected=expected) for before in range(epoch)), zero)

    def _pass(self, task: int, begin: int, count: int) -> np.ndarray:
        """The numbers within a task of its next examples, from place `begin` of all its passes on."""
        size = self.shares.sizes[task]
        passes = range(begin // size, -(-(begin + count) // size))
        stream = OfSeed.TASK_EXAMPLES + (task << 32)
        orders = [host_generator(self.seed, stream + number).permutation(size) for number in passes]
        first = begin - passes.start * size
        return np.concatenate([np.zeros(0, np.int64), *orders])[first : first + count]

    def _turns(self, counts: np.ndarray, places: np.ndarray, epoch: int) -> np.ndarray:
        """The order of the steps of an epoch, which are given task by task, each from one of `places` on."""
        if self.shares.sampler == "round_robin":
            tasks = len(counts)
            first = epoch * self.steps % tasks
            numbered = [(turn, (task - first) % tasks, task) for task, count in enumerate(counts) for turn in range(count)]
            return np.array([places[task] + turn for turn, _, task in sorted(numbered)])
        return host_generator(self.seed, OfSeed.TASK_STEPS + epoch).permutation(int(counts.sum()))


def apportioned(total: int, shares: np.ndarray, least: int = 0) -> np.ndarray:
    """A whole number for each share, with the sum `total`, by largest remainder, and `least` or more, int64 [shares]."""
    exact = total * shares
    found = np.maximum(np.floor(exact).astype(np.int64), least)
    while found.sum() > total:
        found[np.argmax(np.where(found > least, found - exact, -np.inf))] -= 1
    first = np.argsort(found - exact, kind="stable")[: total - int(found.sum())]
    found[first] += 1
    return found
