"""Batches in declared shapes: every example once, nothing overlaps, and little is wasted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data.batching.declared_shapes import batches_in, declare_shapes


def check(lengths, shapes, unit=1):
    """The share of the positions that hold tokens, after checking where each example sits."""
    batches = batches_in(lengths, shapes, unit)
    seen, positions = [], 0
    for step in range(batches.steps):
        shape = batches.shape(step)
        assert shape in shapes
        assert shape.rows % unit == 0
        examples, (_, rows, offsets, slots) = batches.cells(step)
        taken = np.zeros((shape.rows, shape.length), int)
        for example, row, offset in zip(examples, rows, offsets, strict=True):
            taken[row, offset : offset + lengths[example]] += 1
        assert taken.max() == 1
        assert taken.sum() == lengths[examples].sum()
        assert len({*zip(rows.tolist(), slots.tolist(), strict=True)}) == len(examples)
        assert slots.max() < shape.slots
        seen += examples.tolist()
        positions += shape.rows * shape.length
    assert sorted(seen) == list(range(len(lengths)))
    return lengths.sum() / positions


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=80), st.sampled_from([200, 512, 201]), st.sampled_from([1, 2, 8]))
def test_every_example_sits_somewhere_alone(lengths, longest, unit):
    check(np.array(lengths), declare_shapes(longest, 2048 * unit, unit), unit)


@pytest.mark.parametrize("mean", [12, 40, 150])
def test_rows_are_full(mean):
    lengths = np.clip(np.random.default_rng(0).gamma(4, mean / 4, 2000).astype(int) + 3, 3, 512)
    assert check(lengths, declare_shapes(512, 2048)) > 0.95


def test_few_examples_get_a_short_row():
    shapes = declare_shapes(512, 2048)
    alone = {9: 16, 18: 24, 70: 96, 300: 384}
    several = (([9, 5, 16], 32), ([100, 28], 128), ([300, 20], 512))
    for lengths, expected in (*(([size], length) for size, length in alone.items()), *several):
        batches = batches_in(np.array(lengths), shapes)
        assert [(batches.shape(i).rows, batches.shape(i).length) for i in range(batches.steps)] == [(1, expected)]


def test_shapes_are_few_and_end_at_the_longest_example():
    assert len(declare_shapes(512, 2048)) <= 15
    assert {shape.length for shape in declare_shapes(130, 2048)} == {16, 24, 32, 48, 64, 96, 128, 136}
    assert all(shape.rows * shape.length <= 2048 or shape.rows == 1 for shape in declare_shapes(512, 2048))
