"""The calls of the program that a run makes, each for one step or several, and their batches on the device."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax

from jaxft.data.batching.batch_sampler import Shape
from jaxft.data.batching.prefetch import Epoch, Epochs, device_batch, prefetch
from jaxft.data.tokens.encode import Examples
from jaxft.parallel import sharding
from jaxft.run.setup import Run
from jaxft.step.compilation import abstract_batch
from jaxft.step.multi_step import STEPS_PER_CALL, MultiStep, multi_steps

# (steps, their epoch, arrays on the device) of every call
Batches = Iterator[tuple[range, Epoch, dict[str, jax.Array]]]
BATCH_BYTES = 64 * 2**20  # bytes that the batches of one call may have by default; a few calls are prefetched


def make_epoch(run: Run, number: int, examples: Examples, stop: Callable[[], bool] = lambda: False) -> Epoch:
    """An epoch of a run on `examples`, or on examples of its own if they differ between epochs.

    Raises:
      CancelledError: as soon as `stop()`, while examples are augmented.
    """
    if not run.epochs:
        return Epoch(run.sampler.epoch_batches(number), examples)
    examples, line = run.epochs(number, stop)
    return Epoch(replace(run.sampler, lengths=examples.lengths).epoch_batches(number), examples, line)


class BatchFeed:
    """Batches of a run in the order of its steps, from those of its epochs.

    Args of the constructor:
      examples: the training data, perhaps with frozen features in place of tokens; those of any epoch have the same columns.
      head_only: whether only a head, and no teacher, is left to compute: a step is short, and a call does several.
    """

    def __init__(self, run: Run, epochs: Epochs, examples: Examples, *, head_only: bool) -> None:
        self._run, self._epochs, self._examples = run, epochs, examples
        self._sharding = sharding.batch_sharding(run.mesh)
        self.steps_per_call = run.config.runtime.steps_per_execution or self._default_steps(head_only)

    def calls(self, start: int) -> list[MultiStep]:
        """Every possible call, the one that begins with step `start` first."""
        first = MultiStep(self._shape(start), len(next(self._steps(start))))
        every = (MultiStep(shape, steps) for shape in self._run.sampler.shapes for steps in (1, self.steps_per_call))
        return list(dict.fromkeys([first, *every]))

    def abstract(self, call: MultiStep) -> dict[str, Any]:
        """Shapes, types and shardings of the batches of a call."""
        return abstract_batch(self._run.sampler, call.shape, self._examples, self._sharding, call.steps)

    def batches(self, start: int) -> Batches:
        """(steps, their epoch, arrays on the device) of every call from step `start` on, prefetched."""

        def make(steps: range) -> tuple[range, Epoch, dict[str, jax.Array]]:
            number, in_epoch = divmod(steps.start, self._run.steps_per_epoch)
            epoch = self._epochs.epoch(number)
            steps_in_epoch = range(in_epoch, in_epoch + len(steps))
            return steps, epoch, device_batch(epoch.batches, epoch.examples, steps_in_epoch, self._sharding)

        return prefetch(self._steps(start), make, self._run.config.data.prefetch)

    def _steps(self, start: int) -> Iterator[range]:
        return multi_steps(self._run.calendar, start, self.steps_per_call, self._shape)

    def _shape(self, step: int) -> Shape:
        epoch, in_epoch = divmod(step, self._run.steps_per_epoch)
        return self._epochs.epoch(epoch).batches.shape(in_epoch)

    def _default_steps(self, head_only: bool) -> int:
        """Steps of a call if the config does not say: several if only a head on few tokens is left to compute."""
        short = head_only and self._run.calendar.longest >= STEPS_PER_CALL
        batches = [self.abstract(MultiStep(shape, STEPS_PER_CALL)) for shape in self._run.sampler.shapes]
        size = max(sum(x.size * x.dtype.itemsize for x in batch.values()) for batch in batches)
        return STEPS_PER_CALL if short and size <= BATCH_BYTES else 1
