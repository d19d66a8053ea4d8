"""Metrics of steps, read one call of the program late: while the host waits for them, the device works on the next call."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxft.core.pulse import PULSE
from jaxft.data.batching.batch_sampler import EpochBatches
from jaxft.training.callbacks import Step
from jaxft.training.waits import Waits

Compare = Callable[[float, float], dict[str, Any]]  # (own seconds per step, seconds per step) -> columns


def _alone(own: float, step: float) -> dict[str, Any]:
    """The comparison with other processes where there are none."""
    del own, step
    return {}


class StepMetrics:
    """The metrics of the last call that was sent to the device.

    Args of the constructor:
      every: steps between those that are logged (`log.every`).
      total_steps, steps_per_epoch: optimizer steps.
      learning_rate: of a step, numbered from 0.
      now: seconds of training, without those of other phases (`core.phases`).
      compare: called for each logged interval with the seconds per step that this process worked beside its device, and the
        seconds per step; returns more columns.
    """

    def __init__(
        self,
        every: int,
        total_steps: int,
        steps_per_epoch: int,
        learning_rate: Callable[[int], float],
        now: Callable[[], float] = time.perf_counter,
        compare: Compare = _alone,
    ) -> None:
        self._every, self._total, self._steps_per_epoch = every, total_steps, steps_per_epoch
        self._learning_rate = learning_rate
        self._sent: tuple[range, list[float], Mapping[str, jax.Array]] | None = None
        self.meter = Meter(now, compare)

    def send(self, steps: range, metrics: Mapping[str, jax.Array], batches: EpochBatches) -> None:
        """Store the metrics of a call, scalars or arrays [steps], until they are read.

        The steps are numbered from 0, and the batches are those of their epoch.
        """
        self._sent = (steps, [self._learning_rate(step) for step in steps], metrics)
        for step in steps:
            examples = batches.examples(step % self._steps_per_epoch)
            self.meter.add(len(examples), int(batches.sampler.lengths[examples].sum()))

    def read(self) -> Iterator[Step]:
        """Wait for the last call, and yield its steps unless they have been read."""
        if self._sent is None:
            return
        (steps, rates, metrics), self._sent = self._sent, None
        with self.meter.waits.device:
            values = {name: np.atleast_1d(np.asarray(x)).tolist() for name, x in metrics.items()}
        own = [values.pop(name) for name in ("loss", "weight", "grad_norm")]
        numbers = range(steps.start + 1, steps.stop + 1)
        rows = list(zip(numbers, rates, *own, strict=True))
        logged = {done for done, *_ in rows if done % self._every == 0 or done == self._total}
        # The same for all steps of a call, which have no times of their own.
        speed = self.meter.read() if logged else {}
        for i, (done, rate, loss, weight, norm) in enumerate(rows):
            known_loss = loss if weight or not np.isfinite(loss) else None
            more = {name: x[i] for name, x in values.items()}
            yield Step(done, done / self._steps_per_epoch, known_loss, rate, norm, speed if done in logged else None, more)


class Meter:
    """Examples and real tokens per second, and the shares of the loop's waits, since the last reading.

    Args of the constructor:
      now: seconds of training.
      compare: as in `StepMetrics`.
    """

    def __init__(self, now: Callable[[], float], compare: Compare) -> None:
        self._now, self._compare, self.waits = now, compare, Waits()
        self.reset()

    def reset(self) -> None:
        """Start over, such as after an evaluation, when the device has no step to work on."""
        self._start = self._now()
        self._examples = self._tokens = self._steps = 0
        self._waited = PULSE.waited
        self.waits.reset()

    def add(self, examples: int, tokens: int) -> None:
        """Count a step."""
        self._steps += 1
        self._examples += examples
        self._tokens += tokens

    def read(self) -> dict[str, Any]:
        """`examples_per_second`, `tokens_per_second`, the shares of the waits and the columns of `compare`; start over."""
        seconds = max(self._now() - self._start, 1e-9)
        speed = {"examples_per_second": self._examples / seconds, "tokens_per_second": self._tokens / seconds}
        shares = self.waits.shares(seconds)
        steps, waits = max(self._steps, 1), self.waits
        waited = waits.device.seconds + waits.dispatch.seconds + PULSE.waited - self._waited
        more = self._compare(max(0.0, seconds - waited) / steps, seconds / steps)
        self.reset()
        return speed | shares | more
