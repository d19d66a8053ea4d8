"""The fixed batches of a teacher."""

import numpy as np
import pytest

from jaxft.teacher_cache import layout
from jaxft.teacher_cache.layout import fixed_batches, from_step


@pytest.mark.parametrize("count", [1, 7, 900])
@pytest.mark.parametrize("in_order", [False, True])
def test_every_example_is_in_a_row_once_and_steps_follow_one_another(monkeypatch, count, in_order):
    monkeypatch.setattr(layout, "TOKENS", 512)
    lengths = np.random.default_rng(0).integers(2, 140, count)
    lengths = np.sort(lengths) if in_order else lengths
    batches = fixed_batches(lengths)
    assert len(batches.shapes) <= layout.SHAPES
    seen = []
    for step in range(batches.steps):
        index, (part, row, offset, slot) = batches.cells(step)
        shape = batches.shape(step)
        seen += index.tolist()
        assert not part.any()
        assert row.max() < shape.rows
        assert slot.max() < shape.slots
        taken = np.zeros((shape.rows, shape.length), int)
        for example, r, begin in zip(index, row, offset, strict=True):
            taken[r, begin : begin + lengths[example]] += 1
        assert taken.max() == 1
        assert taken.sum() == lengths[index].sum()
    assert seen == list(range(count))
    later = from_step(batches, batches.steps // 2)
    assert [x for step in range(later.steps) for x in later.examples(step)] == seen[later.begins[0] :]


def test_examples_are_at_the_same_places_on_any_number_of_devices():
    lengths = np.random.default_rng(0).integers(2, 140, 400)
    one, many = fixed_batches(lengths, 1), fixed_batches(lengths, 12)
    for name in ("order", "row", "offset", "slot", "begins"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
    assert all(shape.rows % 12 == 0 for shape in many.shapes)
