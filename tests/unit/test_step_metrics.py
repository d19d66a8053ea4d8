"""Metrics of steps, and the speed that is reported with them."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxft.training import step_metrics
from jaxft.training.step_metrics import StepMetrics


class Late:
    """A metric of a step that is still being computed: reading it takes two seconds."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock

    def __array__(self, dtype=None, copy=None):
        self.clock[0] += 2.0
        return np.asarray(1.0, dtype)


def test_the_wait_for_a_step_is_part_of_its_time(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(step_metrics.time, "perf_counter", lambda: clock[0])
    metrics = StepMetrics(1, 4, 4, lambda _: 0.1)
    batches = SimpleNamespace(examples=lambda _: np.arange(3), sampler=SimpleNamespace(lengths=np.array([5, 6, 7])))
    metrics.send(range(1), dict.fromkeys(("loss", "weight", "grad_norm"), Late(clock)), batches)  # type: ignore[arg-type]
    [step] = metrics.read()
    assert step.speed == pytest.approx({"examples_per_second": 3 / 6, "tokens_per_second": 18 / 6})
    assert list(metrics.read()) == []
