"""Packing: full rows, row lengths and bucket sizes of lowest cost."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.batching.packing import ATTENTION, NEAR, choose_bucket_sizes, choose_slots, fullest_rows, pack

quick = settings(max_examples=60, deadline=None, derandomize=True)


@quick
@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(20, 40), st.integers(1, 12))
def test_each_row_is_as_full_as_the_remaining_examples_allow(sizes, length, slots):
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


def test_packing_may_need_fewer_rows_than_first_fit():
    """5, 4, 4, 3, 2, 2: taking the longest that fits gives rows of 9, 9 and 2; two full rows are enough."""
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
    """Lengths like those of GLUE's sentence pairs; the larger set exceeds the sample that row lengths are chosen from."""
    drawn = np.random.default_rng(0).lognormal(np.log(38), 0.7, count)
    lengths = np.clip(np.round(drawn), 6, 128).astype(np.int64)
    sampler = make_sampler(lengths, batch_size=batch_size, max_length=128, layout="pack", epochs=2, seed=0)
    assert 1 - sampler.epoch_batches(1).fill() < most
    assert len(sampler.shapes) == 1  # with steps alike, a second would not pay


def test_packing_wastes_little_of_uniform_lengths():
    lengths = np.random.default_rng(0).integers(3, 60, 24 * 128)  # all steps are full
    for batch_size, least in ((32, 0.9), (128, 0.95)):
        sampler = make_sampler(lengths, batch_size=batch_size, max_length=128, layout="pack", epochs=2, seed=0)
        assert sampler.epoch_batches(1).fill() > least
        assert len(sampler.shapes) == 1  # with steps alike, a second would not pay in a run as short


def test_of_row_lengths_of_equal_cost_the_one_with_fewest_positions_is_chosen():
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
    """So that two examples longer than half of the longest one share a row."""
    lengths = np.random.default_rng(0).integers(110, 201, 400)
    sampler = make_sampler(lengths, batch_size=8, max_length=256, layout="pack", seed=0)
    assert 200 < sampler.shapes[0].length <= 512
    assert sampler.epoch_batches(0).fill() > 0.8


@quick
@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 4), st.sampled_from([0, 1, 5]))
def test_bucket_sizes_have_the_lowest_cost(needs, most, price):
    def cost(sizes: tuple[int, ...]) -> float:
        return sum(min(size for size in sizes if size >= need) for need in needs) + price * max(needs) * len(sizes)

    values = sorted(set(needs))
    below = values[:-1]
    possible = [(*c, values[-1]) for k in range(most) for c in itertools.combinations(below, k)]
    sizes = choose_bucket_sizes(np.array(needs), most, price)
    assert len(sizes) <= most
    assert cost(tuple(sizes)) == min(map(cost, possible))
