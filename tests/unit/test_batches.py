"""The batch sampler: every example once, the same examples per step in every layout, no overlaps, declared shapes only."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data.batching import batch_sampler
from jaxft.data.batching.batch_sampler import BatchSampler, EpochBatches, make_sampler
from jaxft.data.batching.prefetch import Epochs
from jaxft.data.tokens.encode import Examples

LAYOUTS = ("pack", "bucket", "pad")
quick = settings(max_examples=60, deadline=None, derandomize=True)


@dataclass(frozen=True)
class Job:
    lengths: np.ndarray
    batch_size: int
    max_length: int
    epochs: int
    seed: int | None
    shapes: int
    micro_batches: int
    shards: int

    def sampler(self, layout: str) -> BatchSampler:
        return make_sampler(**vars(self), layout=layout)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    max_length = draw(st.integers(3, 48))
    one_length = draw(st.integers(1, max_length))
    lengths = st.one_of(st.integers(1, max_length), st.just(max_length), st.just(one_length))
    batch_size = draw(st.integers(1, 24))
    return Job(
        lengths=np.array(draw(st.lists(lengths, min_size=1, max_size=70)), np.int64),
        batch_size=batch_size,
        max_length=max_length,
        epochs=draw(st.integers(1, 3)),
        seed=draw(st.one_of(st.none(), st.integers(0, 2**31))),
        shapes=draw(st.integers(1, 4)),
        micro_batches=draw(st.integers(1, min(batch_size, 4))),
        shards=draw(st.sampled_from([1, 2, 8])),
    )


def make_examples(lengths: np.ndarray) -> Examples:
    rng = np.random.default_rng(0)
    total = int(lengths.sum())
    tokens = {
        "input_ids": rng.integers(1, 1000, total).astype(np.int32),
        "token_type_ids": rng.integers(0, 2, total).astype(np.int8),
    }
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Examples(tokens, offsets, {"labels": np.arange(len(lengths), dtype=np.int32) * 7})


def all_batches(job: Job) -> Iterator[tuple[BatchSampler, EpochBatches]]:
    for layout in LAYOUTS:
        sampler = job.sampler(layout)
        for epoch in range(job.epochs):
            yield sampler, sampler.epoch_batches(epoch)


def members(batches: EpochBatches, examples: Examples, step: int) -> list[int]:
    found = batches.batch(examples, step)["example"]
    return sorted(found[found >= 0].tolist())


CORNERS = {
    "one example": Job(np.array([5]), 8, 16, 2, 0, 3, 2, 8),
    "batch larger than data": Job(np.array([3, 9, 4]), 64, 16, 2, 1, 3, 4, 8),
    "all the same length": Job(np.full(50, 7), 8, 16, 2, 2, 3, 1, 1),
    "all at max_length": Job(np.full(33, 48), 8, 48, 2, 3, 3, 2, 1),
    "single tokens beside long rows": Job(np.array([1] * 40 + [48] * 3), 43, 48, 1, 4, 2, 1, 1),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corner_cases_are_laid_out_and_built(name):
    check_layout(CORNERS[name])
    check_arrays(CORNERS[name])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch_size", [4, 10**12])
def test_a_run_of_very_many_epochs_costs_no_more(layout, batch_size):
    """Shapes are chosen from a few epochs, but any epoch can be computed; a batch size beyond the data costs nothing."""
    lengths = np.random.default_rng(0).integers(1, 40, 100)
    start = time.process_time()
    sampler = make_sampler(lengths, batch_size=batch_size, max_length=48, layout=layout, epochs=10**12, seed=0)
    assert time.process_time() - start < 5
    for epoch in (0, 10**12 - 1):
        batches = sampler.epoch_batches(epoch)
        steps = range(sampler.steps_per_epoch)
        assert sorted(x for step in steps for x in batches.examples(step)) == list(range(100))
        assert {batches.shape(step) for step in steps} <= set(batches.shapes)


def test_all_batch_sizes_beyond_the_data_give_the_same_batches():
    lengths = np.random.default_rng(1).integers(1, 40, 30)
    all_batches = [
        make_sampler(lengths, batch_size=n, max_length=48, layout="pack", seed=0).epoch_batches(1) for n in (31, 64, 10**9)
    ]
    for batches in all_batches[1:]:
        np.testing.assert_array_equal(batches.order, all_batches[0].order)
        np.testing.assert_array_equal(batches.row, all_batches[0].row)
        assert batches.shapes == all_batches[0].shapes


def test_a_step_that_needs_more_rows_than_expected_has_its_own_shape(monkeypatch):
    """In epochs that were not sampled; the same on every process and in every resumed run."""
    monkeypatch.setattr(batch_sampler, "SAMPLED_EPOCHS", (1, 1))
    lengths = np.random.default_rng(2).integers(1, 40, 203)
    sampler = make_sampler(lengths, batch_size=8, max_length=40, layout="pack", epochs=10**6, seed=0, shapes=1)
    grown = [batches for batches in map(sampler.epoch_batches, range(60)) if len(batches.shapes) > len(sampler.shapes)]
    assert grown
    assert len(sampler.epoch_batches(0).shapes) == len(sampler.shapes)
    examples = make_examples(lengths)
    for batches in grown[:3]:
        for step in range(sampler.steps_per_epoch):
            rows = batches.shape(step).rows
            assert rows > batches.row[batches._slice(step)].max()
            assert batches.batch(examples, step)["input_ids"].shape == (1, rows, batches.shape(step).length)


@quick
@given(jobs())
def test_examples_fit_into_rows_and_shapes_are_declared(job):
    check_layout(job)


@quick
@given(jobs())
def test_batches_contain_every_example(job):
    check_arrays(job)


def check_layout(job: Job) -> None:
    n = len(job.lengths)
    for sampler, batches in all_batches(job):
        assert sorted(batches.order.tolist()) == list(range(n))
        assert len(sampler.shapes) <= (1 if sampler.layout == "pad" else job.shapes)
        assert sampler.shapes == tuple(sorted(set(sampler.shapes)))
        for step in range(sampler.steps_per_epoch):
            shape = batches.shape(step)
            assert shape in sampler.shapes
            assert shape.rows % (job.micro_batches * job.shards) == 0
            chosen = slice(step * job.batch_size, (step + 1) * job.batch_size)
            row, start, slot = batches.row[chosen], batches.offset[chosen], batches.slot[chosen]
            stop = start + job.lengths[batches.order[chosen]]
            assert 0 <= row.min() <= row.max() < shape.rows
            assert 0 <= start.min() <= stop.max() <= shape.length
            assert 0 <= slot.min() <= slot.max() < shape.slots
            assert len({*zip(row.tolist(), slot.tolist(), strict=True)}) == len(row)
            order = np.lexsort((start, row))
            same_row = row[order][1:] == row[order][:-1]
            assert (stop[order][:-1] <= start[order][1:])[same_row].all()


def check_arrays(job: Job) -> None:
    examples = make_examples(job.lengths)
    for sampler, batches in all_batches(job):
        seen = []
        for step in range(sampler.steps_per_epoch):
            batch = batches.batch(examples, step)
            shape = batches.shape(step)
            assert batch["input_ids"].shape == (job.micro_batches, shape.rows // job.micro_batches, shape.length)
            assert batch["example"].shape[2] == shape.slots
            filled = np.argwhere(batch["example"] >= 0)
            np.testing.assert_array_equal(batch["weights"], batch["example"] >= 0)
            segments = batch["segment_ids"]
            cells = 0
            numbers = set()
            for k, r, m in filled:
                i = batch["example"][k, r, m]
                start, size = batch["first_token"][k, r, m], job.lengths[i]
                here = (k, r, slice(start, start + size))
                source = slice(examples.offsets[i], examples.offsets[i + 1])
                for column in ("input_ids", "token_type_ids"):
                    np.testing.assert_array_equal(batch[column][here], examples.tokens[column][source])
                np.testing.assert_array_equal(batch["position_ids"][here], np.arange(size))
                assert segments[here].min() == segments[here].max() > 0
                numbers.add((k, r, segments[k, r, start]))
                assert batch["labels"][k, r, m] == 7 * i
                cells += size
                seen.append(int(i))
            assert len(numbers) == len(filled)
            assert (segments > 0).sum() == cells
            assert (batch["input_ids"] > 0).sum() == cells
        assert sorted(seen) == list(range(len(job.lengths)))


@quick
@given(jobs(), st.integers(1, 3), st.sampled_from([1, 4]))
def test_a_step_has_the_same_examples_in_every_layout(job, micro_batches, shards):
    examples = make_examples(job.lengths)
    other = Job(**{**vars(job), "micro_batches": micro_batches, "shards": shards, "shapes": 2})
    reference = job.sampler("pad").epoch_batches(job.epochs - 1)
    for sampler in (job.sampler("pack"), job.sampler("bucket"), other.sampler("pack"), other.sampler("pad")):
        batches = sampler.epoch_batches(job.epochs - 1)
        for step in range(sampler.steps_per_epoch):
            assert members(batches, examples, step) == members(reference, examples, step)


@quick
@given(jobs(), st.data())
def test_some_rows_are_those_of_the_full_batch(job, data):
    examples = make_examples(job.lengths)
    for sampler, batches in all_batches(job):
        step = data.draw(st.integers(0, sampler.steps_per_epoch - 1))
        whole = batches.batch(examples, step)
        each = whole["input_ids"].shape[1]
        rows = np.array(sorted(data.draw(st.sets(st.integers(0, each - 1)))), np.int64)
        part = batches.batch(examples, step, rows)
        assert part.keys() == whole.keys()
        for name, x in whole.items():
            np.testing.assert_array_equal(part[name], x[:, rows], err_msg=name)
            assert part[name].dtype == x.dtype


@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches_are_a_function_of_seed_and_epoch(layout):
    lengths = np.random.default_rng(0).integers(2, 30, 200)

    def batches(seed: int, epoch: int) -> list[np.ndarray]:
        made = make_sampler(lengths, batch_size=16, max_length=32, layout=layout, epochs=3, seed=seed).epoch_batches(epoch)
        return [made.order, made.row, made.offset, made.slot, made.shape_index]

    for again, once in zip(batches(5, 2), batches(5, 2), strict=True):
        np.testing.assert_array_equal(again, once)
    orders = [batches(seed, epoch)[0].tolist() for seed in (5, 6) for epoch in (0, 1, 2)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))


def test_the_next_epoch_is_computed_during_this_one(monkeypatch):
    begun, go_on = [], threading.Event()

    def slow(epoch: int) -> str:
        begun.append(epoch)
        assert epoch < 2 or go_on.wait(60)
        return f"epoch {epoch}"

    epochs = Epochs(slow, 4)
    assert [epochs.epoch(n) for n in (0, 0, 1, 1)] == ["epoch 0", "epoch 0", "epoch 1", "epoch 1"]  # 2 is not finished
    go_on.set()
    assert [epochs.epoch(n) for n in (2, 3)] == ["epoch 2", "epoch 3"]
    assert begun == [0, 1, 2, 3]  # each once, and none after the last
    epochs.close()
