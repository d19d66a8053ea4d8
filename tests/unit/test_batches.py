"""The sampler: every example once, the same examples a step in every layout, nothing overlaps, only declared shapes."""

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
from jaxft.data.batching.packing import ATTENTION, NEAR, choose_bucket_sizes, choose_slots, fullest_rows, pack
from jaxft.data.batching.prefetch import Epochs, prefetch
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
def test_corners(name):
    check_layout(CORNERS[name])
    check_arrays(CORNERS[name])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch_size", [4, 10**12])
def test_a_run_without_end_is_planned_at_once(layout, batch_size):
    """Shapes are chosen by some of its epochs, but any can be planned; a step's size beyond the data costs nothing."""
    lengths = np.random.default_rng(0).integers(1, 40, 100)
    start = time.perf_counter()
    sampler = make_sampler(lengths, batch_size=batch_size, max_length=48, layout=layout, epochs=10**12, seed=0)
    assert time.perf_counter() - start < 5
    for epoch in (0, 10**12 - 1):
        batches = sampler.epoch_batches(epoch)
        steps = range(sampler.steps_per_epoch)
        assert sorted(x for step in steps for x in batches.examples(step)) == list(range(100))
        assert {batches.shape(step) for step in steps} <= set(batches.shapes)


def test_batches_larger_than_the_data_are_all_alike():
    lengths = np.random.default_rng(1).integers(1, 40, 30)
    all_batches = [
        make_sampler(lengths, batch_size=n, max_length=48, layout="pack", seed=0).epoch_batches(1) for n in (31, 64, 10**9)
    ]
    for batches in all_batches[1:]:
        np.testing.assert_array_equal(batches.order, all_batches[0].order)
        np.testing.assert_array_equal(batches.row, all_batches[0].row)
        assert batches.shapes == all_batches[0].shapes


def test_a_step_that_needs_more_rows_than_were_expected_has_a_shape_of_its_own(monkeypatch):
    """Beyond the epochs that were looked at; on every process and in every resumed run the same."""
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
def test_rows_hold_what_fits_and_shapes_are_declared(job):
    check_layout(job)


@quick
@given(jobs())
def test_batches_rebuild_every_example(job):
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
def test_a_step_holds_the_same_examples_whatever_the_layout(job, micro_batches, shards):
    examples = make_examples(job.lengths)
    other = Job(**{**vars(job), "micro_batches": micro_batches, "shards": shards, "shapes": 2})
    reference = job.sampler("pad").epoch_batches(job.epochs - 1)
    for sampler in (job.sampler("pack"), job.sampler("bucket"), other.sampler("pack"), other.sampler("pad")):
        batches = sampler.epoch_batches(job.epochs - 1)
        for step in range(sampler.steps_per_epoch):
            assert members(batches, examples, step) == members(reference, examples, step)


@quick
@given(jobs(), st.data())
def test_built_rows_are_slices_of_the_full_batch(job, data):
    examples = make_examples(job.lengths)
    for sampler, batches in all_batches(job):
        step = data.draw(st.integers(0, sampler.steps_per_epoch - 1))
        whole = batches.batch(examples, step)
        each = whole["input_ids"].shape[1]
        a = data.draw(st.integers(0, each))
        b = data.draw(st.integers(a, each))
        part = batches.batch(examples, step, slice(a, b))
        assert part.keys() == whole.keys()
        for name, x in whole.items():
            np.testing.assert_array_equal(part[name], x[:, a:b], err_msg=name)
            assert part[name].dtype == x.dtype


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_plan_is_a_function_of_seed_and_epoch(layout):
    lengths = np.random.default_rng(0).integers(2, 30, 200)

    def batches(seed: int, epoch: int) -> list[np.ndarray]:
        made = make_sampler(lengths, batch_size=16, max_length=32, layout=layout, epochs=3, seed=seed).epoch_batches(epoch)
        return [made.order, made.row, made.offset, made.slot, made.shape_index]

    for again, once in zip(batches(5, 2), batches(5, 2), strict=True):
        np.testing.assert_array_equal(again, once)
    orders = [batches(seed, epoch)[0].tolist() for seed in (5, 6) for epoch in (0, 1, 2)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))


@quick
@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(20, 40), st.integers(1, 12))
def test_a_row_is_as_full_as_the_examples_left_can_make_it(sizes, length, slots):
    sizes = sorted(sizes, reverse=True)
    rows, offsets, places = fullest_rows(sizes, length, slots)
    left = list(range(len(sizes)))
    for row in range(max(rows) + 1):
        members = [i for i in range(len(sizes)) if rows[i] == row]
        held = [sizes[i] for i in members]
        assert members[0] == left[0]
        assert [places[i] for i in members] == list(range(len(members)))
        assert [offsets[i] for i in members] == list(np.cumsum(held) - held)
        assert len(members) <= slots
        others = [sizes[i] for i in left[1:]]
        sums = (sum(x) for n in range(len(others) + 1) for x in itertools.combinations(others, n))
        best = max(x for x in sums if x <= length - held[0])
        assert sum(held) <= length
        if len(members) < slots:
            assert sum(held) == held[0] + best
        left = [i for i in left if i not in members]
    assert not left


def test_rows_are_filled_where_first_fit_leaves_more_than_enough():
    """5, 4, 4, 3, 2, 2: the longest that fit next give rows of 9, 9 and 2; two full rows hold them all."""
    lengths = np.array([2, 4, 3, 2, 5, 4])
    assert pack(lengths, 6, 10, 6, min_rows=3)[3].tolist() == [3]
    row, offset, slot, used = pack(lengths, 6, 10, 6)
    assert used.tolist() == [2]
    assert np.bincount(row, lengths).tolist() == [10, 10]
    assert sorted(zip(row.tolist(), offset.tolist(), slot.tolist(), strict=True)) == [
        *((0, 0, 0), (0, 5, 1), (0, 8, 2)),
        *((1, 0, 0), (1, 4, 1), (1, 8, 2)),
    ]


@pytest.mark.parametrize(("batch_size", "most"), [(32, 0.02), (128, 0.025)])
@pytest.mark.parametrize("count", [12_800, 128_000])
def test_packing_wastes_little(batch_size, most, count):
    """Lengths like those of GLUE's pairs of sentences; the second time more of them than row lengths are chosen by."""
    drawn = np.random.default_rng(0).lognormal(np.log(38), 0.7, count)
    lengths = np.clip(np.round(drawn), 6, 128).astype(np.int64)
    sampler = make_sampler(lengths, batch_size=batch_size, max_length=128, layout="pack", epochs=2, seed=0)
    assert 1 - sampler.epoch_batches(1).fill() < most
    assert len(sampler.shapes) == 1  # with steps alike, a second would not pay


def test_packing_wastes_little_of_lengths_that_are_all_as_frequent():
    lengths = np.random.default_rng(0).integers(3, 60, 24 * 128)  # no step is smaller
    for batch_size, least in ((32, 0.9), (128, 0.95)):
        sampler = make_sampler(lengths, batch_size=batch_size, max_length=128, layout="pack", epochs=2, seed=0)
        assert sampler.epoch_batches(1).fill() > least
        assert len(sampler.shapes) == 1  # with steps alike, a second would not pay in a run as short


def test_of_row_lengths_that_cost_the_same_the_one_with_fewest_positions_is_chosen():
    lengths = np.random.default_rng(0).integers(40, 61, 128 * 8)
    sampler = make_sampler(lengths, batch_size=128, max_length=128, layout="pack", seed=0)
    [shape] = sampler.shapes
    price = shape.rows * shape.length * (1 + shape.length / ATTENTION)
    ordered = lengths[sampler.epoch_batches(0).order]
    for length in range(64, 513, 8):
        rows = int(pack(ordered, 128, length, choose_slots(lengths, length))[3].max())
        other = rows * length * (1 + length / ATTENTION)
        assert price <= NEAR * other
        if other <= price:
            assert shape.rows * shape.length <= rows * length


def test_rows_may_be_longer_than_any_example():
    """Two examples that are longer than half of the longest share a row all the same."""
    lengths = np.random.default_rng(0).integers(110, 201, 400)
    sampler = make_sampler(lengths, batch_size=8, max_length=256, layout="pack", seed=0)
    assert 200 < sampler.shapes[0].length <= 512
    assert sampler.epoch_batches(0).fill() > 0.8


@quick
@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 4), st.sampled_from([0, 1, 5]))
def test_the_ladder_is_the_best_one(needs, most, price):
    def cost(ladder: tuple[int, ...]) -> float:
        return sum(min(size for size in ladder if size >= need) for need in needs) + price * max(needs) * len(ladder)

    values = sorted(set(needs))
    below = values[:-1]
    possible = [(*c, values[-1]) for k in range(most) for c in itertools.combinations(below, k)]
    ladder = choose_bucket_sizes(np.array(needs), most, price)
    assert len(ladder) <= most
    assert cost(tuple(ladder)) == min(map(cost, possible))


def test_the_next_epoch_is_planned_beside_the_steps_of_this_one(monkeypatch):
    begun, go_on = [], threading.Event()

    def slow(self: BatchSampler, epoch: int) -> str:
        begun.append(epoch)
        assert epoch < 2 or go_on.wait(10)
        return f"plan {epoch}"

    monkeypatch.setattr(BatchSampler, "epoch_batches", slow)
    epochs = Epochs(make_sampler(np.full(8, 3), batch_size=4, max_length=4, layout="pack", seed=0), 4)
    assert [epochs.batches(n) for n in (0, 0, 1, 1)] == ["plan 0", "plan 0", "plan 1", "plan 1"]  # plan 2 is not there yet
    go_on.set()
    assert [epochs.batches(n) for n in (2, 3)] == ["plan 2", "plan 3"]
    assert begun == [0, 1, 2, 3]  # each once, and none after the last
    epochs.close()


def workers() -> int:
    return sum(thread.name.startswith("jaxft-prefetch") for thread in threading.enumerate())


def test_prefetch_keeps_order_and_passes_exceptions_when_they_are_due():
    def make(i: int) -> int:
        if i == 3:
            raise ValueError("item 3")
        return i * i

    batches = prefetch(iter(range(10)), make, 2)
    assert [next(batches) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(ValueError, match="item 3"):
        next(batches)
    assert list(prefetch(iter(range(5)), lambda i: -i, 1)) == [0, -1, -2, -3, -4]
    assert workers() == 0


def test_prefetch_stops_its_thread_and_never_runs_far_ahead():
    made = []
    batches = prefetch(itertools.count(), lambda i: made.append(i) or i, 3)
    assert [next(batches) for _ in range(4)] == [0, 1, 2, 3]
    assert workers() == 1
    batches.close()
    assert workers() == 0
    assert len(made) <= 4 + 3 + 1
