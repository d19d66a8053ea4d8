"""Metrics of steps, and the speed and the waits that are reported with them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxft.core.phases import COMPILING, TRAINING, Clock
from jaxft.training.step_metrics import StepMetrics
from jaxft.training.waits import Waits


class Late:
    """A metric of a step that is still being computed: reading it takes two seconds."""

    def __init__(self, now: list[float]) -> None:
        self.now = now

    def __array__(self, dtype=None, copy=None):
        self.now[0] += 2.0
        return np.asarray(1.0, dtype)


BATCHES: Any = SimpleNamespace(examples=lambda _: np.arange(3), sampler=SimpleNamespace(lengths=np.array([5, 6, 7])))


def test_the_wait_for_a_step_is_part_of_its_time_and_compiling_is_not():
    """Two seconds for data, one for the call, six for the device, and one for the loop; a minute of compiling."""
    now = [100.0]

    def time() -> float:
        return now[0]

    clock = Clock(time)
    with clock.during(TRAINING):
        metrics = StepMetrics(1, 4, 4, lambda _: 0.1, lambda: clock.seconds(TRAINING))
        metrics.meter.waits = waits = Waits(time)

        def batches():
            now[0] += 2.0
            yield 0

        for _ in waits.for_data(batches()):
            with clock.during(COMPILING):
                now[0] += 60.0
            with waits.dispatch:
                now[0] += 1.0
            now[0] += 1.0
            metrics.send(range(1), dict.fromkeys(("loss", "weight", "grad_norm"), Late(now)), BATCHES)  # type: ignore[arg-type]
        [step] = metrics.read()
    expected = {"examples_per_second": 3 / 10, "tokens_per_second": 18 / 10}
    assert step.speed == pytest.approx(expected | {"share_data": 0.2, "share_dispatch": 0.1, "share_device": 0.6})
    assert list(metrics.read()) == []
    assert metrics.meter.waits.shares(1.0) == {"share_data": 0.0, "share_dispatch": 0.0, "share_device": 0.0}
