"""Ragged arrays: rows of different lengths, one after the other in a flat array."""

from collections.abc import Sequence

import numpy as np


def offsets_of(lengths: np.ndarray | Sequence[int]) -> np.ndarray:
    """Where each row begins, and where the last one ends: int64 [N + 1] for lengths [N]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def places_in_rows(lengths: np.ndarray) -> np.ndarray:
    """The place of every element in its row: 0 ... n - 1 for each n of `lengths`, int64 [sum of lengths]."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
