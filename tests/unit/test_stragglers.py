"""The process of a run whose own work takes longest is named."""

import pytest

from jaxft.core.pulse import Pulse
from jaxft.training.stragglers import Stragglers


def compared(own, others, step=1.0):
    """(the columns, the lines) of process 0."""
    pulse, lines = Pulse(), []
    pulse.others = {n: {"host": f"host{n}", "own_seconds": x} for n, x in enumerate(others, 1)}
    stragglers = Stragglers(lines.append, pulse)
    return [stragglers.compare(own, step) for _ in range(2)][-1], lines


def test_one_process_has_nothing_to_compare():
    assert compared(0.5, []) == ({}, [])
    assert compared(0.5, [None]) == ({}, [])  # one that has not logged a step yet


@pytest.mark.parametrize(("own", "others", "slowest"), [(0.1, [0.1, 0.9, 0.2], 2), (0.9, [0.1, 0.1, 0.2], 0)])
def test_the_slowest_is_named_once(own, others, slowest):
    columns, lines = compared(own, others)
    assert columns == {"slowest_process": slowest, "slowest_own_seconds": 0.9, "median_own_seconds": 0.1}
    assert len(lines) == 1
    assert lines[0].startswith(f"process {slowest}{' on host2' if slowest else ''} is slow: ")


@pytest.mark.parametrize(("own", "others"), [(0.5, [0.4, 0.6, 0.5]), (0.01, [0.02, 0.05, 0.01])])
def test_usual_differences_and_those_that_cost_little_are_not_reported(own, others):
    columns, lines = compared(own, others)
    assert columns["slowest_process"] == 2
    assert not lines


def test_it_is_named_again_if_it_was_well_meanwhile():
    pulse, lines = Pulse(), []
    stragglers = Stragglers(lines.append, pulse)
    for seconds in (0.9, 0.9, 0.1, 0.9):
        pulse.others = {1: {"host": "other", "own_seconds": seconds}}
        stragglers.compare(0.1, 1.0)
    assert len(lines) == 2
