"""Metrics of steps, read one call of the program late: the device already works on the next when the host waits for them."""

import time
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from jaxft.data.batching.batch_sampler import EpochBatches
from jaxft.training.hooks import Step


class StepMetrics:
    """The metrics of the last call that was sent to the device.

    Args of the constructor:
      every: steps between those that are logged (`log.every`).
      total_steps, steps_per_epoch: optimizer steps.
      learning_rate: of a step, numbered from 0.
    """

    def __init__(self, every: int, total_steps: int, steps_per_epoch: int, learning_rate: Callable[[int], float]) -> None:
        self._every, self._total, self._epoch = every, total_steps, steps_per_epoch
        self._learning_rate = learning_rate
        self._sent: tuple[range, Mapping[str, jax.Array]] | None = None
        self.meter = Meter()

    def send(self, steps: range, metrics: Mapping[str, jax.Array], plan: EpochBatches) -> None:
        """Hold the metrics of a call, scalars or arrays [steps], until they are read.

        Args:
          steps: of the call, numbered from 0.
          metrics: as `train_step` returns them.
          plan: of their epoch.
        """
        self._sent = (steps, metrics)
        for step in steps:
            examples = plan.examples(step % self._epoch)
            self.meter.add(len(examples), int(plan.sampler.lengths[examples].sum()))

    def read(self) -> Iterator[Step]:
        """The steps of the call that was sent last, unless they have been read; this waits for that call only."""
        if self._sent is None:
            return
        (steps, metrics), self._sent = self._sent, None
        names = ("loss", "weight", "grad_norm")
        values = [
            np.atleast_1d(np.asarray(metrics[name])).tolist() for name in names
        ]  # waits for the call, which is part of its time
        ended = range(steps.start + 1, steps.stop + 1)
        logged = [done for done in ended if done % self._every == 0 or done == self._total]
        speed = self.meter.read() if logged else {}  # steps of a call have no times of their own
        for done, loss, weight, norm in zip(ended, *values, strict=True):
            known = loss if weight or not np.isfinite(loss) else None
            rate = self._learning_rate(done - 1)
            yield Step(done, done / self._epoch, known, rate, norm, speed if done in logged else None)


class Meter:
    """Examples and real tokens per second since the last reading."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start over (after an evaluation or a checkpoint, whose time is not training's)."""
        self._start = time.perf_counter()
        self._examples = self._tokens = 0

    def add(self, examples: int, tokens: int) -> None:
        """Count a step."""
        self._examples += examples
        self._tokens += tokens

    def read(self) -> dict[str, float]:
        """`examples_per_second` and `tokens_per_second`, and start over."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        rates = {"examples_per_second": self._examples / seconds, "tokens_per_second": self._tokens / seconds}
        self.reset()
        return rates
