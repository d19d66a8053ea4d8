"""Schedules of learning rates: transformers' functions, the papers' formulas, and very long runs."""

import math
import typing

import jax
import numpy as np
import pytest

from jaxft.config import OptimConfig, Schedule
from jaxft.optim import schedule_factor

TOTAL = 30
# Ours: (options, transformers' name, its arguments)
KNOWN = {
    "linear": ({}, "linear", {}),
    "cosine": ({}, "cosine", {}),
    "constant": ({}, "constant_with_warmup", {}),
    "cosine_restarts": ({"cycles": 3}, "cosine_with_restarts", {"num_cycles": 3}),
    "polynomial": ({"power": 2.0, "end_factor": 0.2}, "polynomial", {"power": 2.0, "lr_end": 0.2}),
    "inverse_sqrt": ({}, "inverse_sqrt", {}),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("warmup", [0, 7, 30])
def test_schedules_are_those_of_transformers(name, warmup):
    torch = pytest.importorskip("torch")
    from transformers import get_scheduler

    options, theirs, arguments = KNOWN[name]
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=1.0)
    expected = get_scheduler(theirs, optimizer, warmup, TOTAL, arguments).lr_lambdas[0]
    config = OptimConfig(schedule=name, warmup=warmup, **options)
    wanted = [expected(step) for step in range(TOTAL)]
    np.testing.assert_allclose([schedule_factor(config, TOTAL)(step) for step in range(TOTAL)], wanted, atol=1e-6)
    on_host = schedule_factor(config, TOTAL, np)
    np.testing.assert_allclose([on_host(step) for step in range(TOTAL)], wanted, atol=1e-6)


@pytest.mark.parametrize("ratio", [32.0, 4.0])
def test_slanted_triangular_is_the_papers_formula(ratio):
    """Howard & Ruder 2018, equation 3, with the warm-up as its cut."""
    cut_frac = 0.2
    cut = math.floor(TOTAL * cut_frac)
    ours = schedule_factor(OptimConfig(schedule="slanted_triangular", warmup=cut_frac, ratio=ratio), TOTAL)
    for t in range(TOTAL):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
        assert float(ours(t)) == pytest.approx((1 + p * (ratio - 1)) / ratio, rel=1e-5)


def test_a_warm_up_share_is_rounded_up():
    factor = schedule_factor(OptimConfig(warmup=0.11), TOTAL)
    assert [float(factor(step)) for step in (0, 2, 4)] == pytest.approx([0, 0.5, 1.0])


@pytest.mark.parametrize("total", [2**33, 10**12, 10**18])
@pytest.mark.parametrize("name", [x for x in typing.get_args(Schedule) if x != "plateau"])
def test_totals_may_exceed_32_bits(name, total):
    """In a program and on the host."""
    config = OptimConfig(schedule=name, warmup=0.1)
    at = np.array([0, 1, 1000, 2**31 - 1], np.int32)
    inside = np.asarray(jax.jit(schedule_factor(config, total))(at))
    np.testing.assert_allclose(inside, schedule_factor(config, total, np)(at), rtol=1e-5)
    assert ((inside >= 0) & (inside <= 1)).all()
    assert inside[3] > inside[1]  # it warms up, although slowly
