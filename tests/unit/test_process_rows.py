"""Which rows of a batch each process builds: together each example of an epoch once, also if their number changes."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.batching.prefetch import local_rows
from jaxft.data.tokens.encode import Examples

LENGTHS = np.random.default_rng(0).integers(2, 40, 203)
STARTS = (8, 0), (3, 13), (1, 21)  # (processes, the step at which they begin), of three epochs of 9 steps
PER_PROCESS = 2  # devices


@dataclass(frozen=True)
class Rows:
    """A sharding of rows over the devices of `owners`, as process `own` sees it."""

    owners: tuple[int, ...]
    own: int

    def addressable_devices_indices_map(self, shape: tuple[int, int]) -> dict[int, Any]:
        """The rows of each device of the process."""
        each, left = divmod(shape[1], len(self.owners))
        assert not left
        mine = (n for n, owner in enumerate(self.owners) if owner == self.own)
        return {n: (slice(None), slice(n * each, (n + 1) * each)) for n in mine}


def in_turn(processes: int) -> tuple[int, ...]:
    """The process of each device in the order of the mesh: neighbours belong to one process."""
    return tuple(np.repeat(np.arange(processes), PER_PROCESS).tolist())


def across(processes: int) -> tuple[int, ...]:
    """As on a TPU pod, where the mesh goes from host to host and back."""
    return (*range(processes), *reversed(range(processes)))


def fed(layout: str, micro_batches: int, owners: tuple[int, ...], begin: int, end: int) -> Iterator[list[int]]:
    """The examples that all processes build for each step from `begin` to `end`."""
    options = {"batch_size": 24, "max_length": 40, "epochs": 3, "seed": 3, "micro_batches": micro_batches}
    sampler = make_sampler(LENGTHS, layout=layout, shards=len(owners), **options)
    tokens = np.arange(LENGTHS.sum(), dtype=np.int32)
    examples = Examples({"input_ids": tokens}, np.concatenate([[0], np.cumsum(LENGTHS)]), {})
    for step in range(begin, end):
        epoch, number = divmod(step, sampler.steps_per_epoch)
        batches, found = sampler.epoch_batches(epoch), []
        rows = batches.shape(number).rows // micro_batches
        for own in range(max(owners) + 1):
            batch = batches.batch(examples, number, local_rows(Rows(owners, own), rows))
            found += batch["example"][batch["example"] >= 0].tolist()
        yield sorted(found)


@pytest.mark.parametrize("owners_of", [in_turn, across])
@pytest.mark.parametrize(("layout", "micro_batches"), [("pack", 1), ("pack", 4), ("bucket", 2), ("pad", 3)])
def test_each_example_is_used_once_an_epoch_when_the_number_of_processes_changes(layout, micro_batches, owners_of):
    ends = [*(begin for _, begin in STARTS[1:]), 27]
    steps = [
        step
        for (processes, begin), end in zip(STARTS, ends, strict=True)
        for step in fed(layout, micro_batches, owners_of(processes), begin, end)
    ]
    assert steps == list(fed(layout, micro_batches, (0,), 0, 27))
    for epoch in range(3):
        assert sorted(itertools.chain(*steps[epoch * 9 : (epoch + 1) * 9])) == list(range(len(LENGTHS)))


def test_rows_of_a_process_need_not_be_neighbours():
    assert local_rows(Rows((0, 1, 1, 0), 0), 8).tolist() == [0, 1, 6, 7]
    assert local_rows(Rows((0, 1, 1, 0), 1), 8).tolist() == [2, 3, 4, 5]
