"""The calls of the program that a run makes, of one step or of several, and their batches on the device."""

from collections.abc import Iterator
from typing import Any

import jax

from jaxft.data.batching.batch_sampler import EpochBatches, Shape
from jaxft.data.batching.prefetch import Epochs, device_batch, prefetch
from jaxft.data.tokens.encode import Examples
from jaxft.parallel import sharding
from jaxft.run.setup import Run
from jaxft.step.compilation import abstract_batch
from jaxft.step.multi_step import STEPS_PER_CALL, MultiStep, multi_steps

BATCH_BYTES = 64 * 2**20  # bytes of the batches of a call, of which a few are there at once


class BatchFeed:
    """Batches of a run in the order of its steps.

    Args of the constructor:
      run: with its sampler and calendar.
      epochs: the batches of its epochs.
      examples: of the training data, perhaps with frozen features in place of tokens.
      whole: whether all of the encoder is frozen features, so that a step is so short that a call does several.
    """

    def __init__(self, run: Run, epochs: Epochs, examples: Examples, *, whole: bool) -> None:
        self._run, self._epochs, self._examples = run, epochs, examples
        self._place = sharding.batch_sharding(run.mesh)
        self.steps_per_call = run.config.runtime.steps_per_execution or self._usual_steps(whole)

    def calls(self, start: int) -> list[MultiStep]:
        """Every call that there can be, the one that begins with step `start` first."""
        first = MultiStep(self._shape(start), len(next(self._steps(start))))
        every = (MultiStep(shape, steps) for shape in self._run.sampler.shapes for steps in (1, self.steps_per_call))
        return list(dict.fromkeys([first, *every]))

    def abstract(self, call: MultiStep) -> dict[str, Any]:
        """Shapes, types and shardings of the batches of a call."""
        return abstract_batch(self._run.sampler, call.shape, self._examples, self._place, call.steps)

    def batches(self, start: int) -> Iterator[tuple[range, EpochBatches, dict[str, jax.Array]]]:
        """(steps, batches of their epoch, arrays on the device) of every call from `start` on, made ahead in a thread."""
        run = self._run

        def make(steps: range) -> tuple[range, EpochBatches, dict[str, jax.Array]]:
            epoch, in_epoch = divmod(steps.start, run.steps_per_epoch)
            of_epoch = self._epochs.batches(epoch)
            batch = device_batch(of_epoch, self._examples, range(in_epoch, in_epoch + len(steps)), self._place)
            return steps, of_epoch, batch

        return prefetch(self._steps(start), make, run.config.data.prefetch)

    def _steps(self, start: int) -> Iterator[range]:
        return multi_steps(self._run.calendar, start, self.steps_per_call, self._shape)

    def _shape(self, step: int) -> Shape:
        epoch, in_epoch = divmod(step, self._run.steps_per_epoch)
        return self._epochs.batches(epoch).shape(in_epoch)

    def _usual_steps(self, whole: bool) -> int:
        """Steps of a call where nobody says: several where a head on few tokens is all that is left of a step."""
        short = whole and self._run.teacher is None and self._run.calendar.longest >= STEPS_PER_CALL
        batches = [self.abstract(MultiStep(shape, STEPS_PER_CALL)) for shape in self._run.sampler.shapes]
        size = max(sum(x.size * x.dtype.itemsize for x in batch.values()) for batch in batches)
        return STEPS_PER_CALL if short and size <= BATCH_BYTES else 1
