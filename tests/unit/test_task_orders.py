"""Which examples of several tasks an epoch has: shares, whole numbers of examples, passes, and steps of one task."""

from dataclasses import replace

import numpy as np
import pytest

from jaxft.data.batching.batch_sampler import epoch_order, make_sampler
from jaxft.data.batching.task_orders import Shares, TaskOrders, apportioned

SIZES = (60, 30, 9)
LENGTHS = np.random.default_rng(0).integers(3, 30, sum(SIZES))


def orders(sampler: str = "proportional", *, mixed: bool = True, batch_size: int = 10, **options) -> TaskOrders:
    return TaskOrders(LENGTHS, batch_size, 7, Shares(sampler, SIZES, **options), mixed)


def tasks_of(examples: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.cumsum(SIZES), examples, side="right")


def expected_shares(*parts: float) -> np.ndarray:
    return np.array(parts) / sum(parts)


@pytest.mark.parametrize(
    ("sampler", "options", "epoch", "parts"),
    [
        ("proportional", {}, 3, SIZES),
        ("temperature", {"temperature": 2.0}, 0, np.sqrt(SIZES)),
        ("temperature", {"temperature": 1.0, "cap": 30}, 0, (30, 30, 9)),
        ("temperature", {"temperature": 1e-4}, 0, (1, 0, 0)),
        ("shares", {"given": (1.5e308, 1.5e308, 0.0)}, 0, (1, 1, 0)),
        ("annealed", {"epochs": 5}, 0, SIZES),
        ("annealed", {"epochs": 5}, 2, np.array(SIZES) ** 0.6),
        ("annealed", {"epochs": 5}, 4, np.array(SIZES) ** 0.2),
        ("annealed", {"epochs": 1}, 0, SIZES),
        ("round_robin", {}, 0, (1, 1, 1)),
        ("shares", {"given": (1.0, 2.0, 1.0)}, 0, (1, 2, 1)),
        ("validation", {"qualities": lambda _: None}, 1, SIZES),
        ("validation", {"qualities": lambda _: (0.5, 0.75, 1.0)}, 4, (0.5, 0.25, 0.01)),
    ],
)
def test_shares(sampler, options, epoch, parts):
    np.testing.assert_allclose(Shares(sampler, SIZES, **options).of_epoch(epoch), expected_shares(*parts))


def test_expected_shares_wait_for_no_evaluation():
    def fail(_: int):
        raise AssertionError

    shares = Shares("validation", SIZES, qualities=fail)
    np.testing.assert_allclose(shares.of_epoch(4, expected=True), expected_shares(*SIZES))


@pytest.mark.parametrize(
    ("total", "shares", "least", "found"),
    [
        (10, (0.6, 0.3, 0.1), 0, [6, 3, 1]),
        (10, (0.56, 0.28, 0.16), 0, [6, 3, 1]),
        (4, (0.98, 0.01, 0.01), 1, [2, 1, 1]),
        (2, (0.9, 0.05, 0.05), 0, [2, 0, 0]),
        (3, (1 / 3, 1 / 3, 1 / 3), 1, [1, 1, 1]),
        (5, (0.25, 0.25, 0.5), 1, [1, 1, 3]),
    ],
)
def test_whole_numbers_by_largest_remainder(total, shares, least, found):
    assert apportioned(total, np.array(shares), least).tolist() == found


@pytest.mark.parametrize("sampler", ["proportional", "round_robin"])
def test_mixed_steps_hold_equally_many_examples_of_each_task(sampler):
    own = orders(sampler)
    steps = own.order(2).reshape(-1, 10)
    assert len(steps) == own.steps == 10
    for step in steps:
        assert np.bincount(tasks_of(step), minlength=3).tolist() == own.counts(2).tolist()


def test_steps_of_one_task():
    own = orders(mixed=False)
    first = [tasks_of(step) for step in own.order(0).reshape(-1, 10)]
    assert all(len(set(x)) == 1 for x in first)
    assert np.bincount([x[0] for x in first]).tolist() == own.counts(0).tolist() == [6, 3, 1]
    assert [x[0] for x in first] != [tasks_of(step)[0] for step in own.order(1).reshape(-1, 10)], "another turn"


def test_round_robin_takes_turns():
    """An epoch goes on where the one before ended, or the first task would have 4 of 10 steps in every epoch."""
    own = orders("round_robin", mixed=False)
    steps = [int(tasks_of(step)[0]) for epoch in range(3) for step in own.order(epoch).reshape(-1, 10)]
    assert steps == [i % 3 for i in range(30)]


@pytest.mark.parametrize("mixed", [True, False])
def test_round_robin_has_equal_shares_over_epochs(mixed):
    own = orders("round_robin", mixed=mixed)
    assert own.counts(0).tolist() == [4, 3, 3]
    assert own.counts(1).tolist() == [3, 4, 3]
    taken = np.concatenate([own.order(epoch) for epoch in range(6)])
    assert np.bincount(tasks_of(taken)).tolist() == [200, 200, 200]


@pytest.mark.parametrize("sampler", ["proportional", "annealed", "round_robin"])
def test_every_pass_has_each_example_once(sampler):
    """Also if a pass ends in the middle of an epoch, and if epochs take different numbers of examples."""
    own = orders(sampler, epochs=9)
    taken = np.concatenate([own.order(epoch) for epoch in range(9)])
    for task, (begin, size) in enumerate(zip((0, 60, 90), SIZES, strict=True)):
        counts = np.bincount(taken[tasks_of(taken) == task] - begin, minlength=size)
        assert counts.max() - counts.min() <= 1, task
    assert not np.array_equal(own.order(0), own.order(1))


def test_an_epoch_is_a_function_of_its_number():
    own, again = orders("annealed", epochs=5), orders("annealed", epochs=5)
    later = again.order(3)
    assert np.array_equal([own.order(epoch) for epoch in range(4)][3], later)
    assert not np.array_equal(replace(own, seed=8).order(3), later)


def test_a_whole_pass_of_the_first_task_has_the_batches_of_that_task_alone():
    sizes = (40, 20)
    lengths = LENGTHS[:60]
    own = TaskOrders(lengths, 6, 7, Shares("proportional", sizes), True)
    assert own.counts(0).tolist() == [4, 2]
    for epoch in range(2):
        steps = own.order(epoch).reshape(-1, 6)
        alone = epoch_order(lengths[:40], 4, 7, epoch).reshape(-1, 4)
        assert [sorted(x[x < 40]) for x in steps] == [sorted(x) for x in alone]


@pytest.mark.parametrize("layout", ["pack", "bucket"])
def test_the_declared_shapes_fit_all_epochs(layout):
    own = orders("annealed", epochs=6)
    sampler = make_sampler(
        LENGTHS, batch_size=10, max_length=32, layout=layout, epochs=6, seed=7, shapes=2, orders=own, micro_batches=2
    )
    for epoch in range(6):
        batches = sampler.epoch_batches(epoch)
        assert batches.shapes == sampler.shapes
        assert batches.steps == sampler.steps_per_epoch == own.steps
