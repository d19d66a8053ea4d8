"""Rows of different lengths in a flat array."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxft.core.ragged import offsets_of, places_in_rows


@given(st.lists(st.integers(0, 9), max_size=8))
def test_offsets_and_positions(lengths):
    offsets, places = offsets_of(lengths), places_in_rows(np.array(lengths, np.int64))
    assert offsets.dtype == places.dtype == np.int64
    assert offsets.tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    assert places.tolist() == [i for n in lengths for i in range(n)]
