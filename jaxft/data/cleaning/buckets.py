"""Candidate pairs: rows that agree in at least two bands, found by sorting each band."""

from collections.abc import Iterator
from itertools import chain

import numpy as np

from jaxft.core.ragged import offsets_of

ALL_PAIRS = 64  # rows of the largest bucket in which all pairs are compared
MOST = 16  # near duplicates of a row; two rows that both have as many are not compared
REPRESENTATIVES = 16  # of a larger bucket, from each side, with which all its rows are compared


def candidates(bands: np.ndarray, band: int, sides: np.ndarray, full: np.ndarray, found: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs that agree in a band and in one before it, and were not yielded before.

    Args:
      bands: a number for each band of each row, uint32 [N, B].
      band: which band to sort.
      sides: bool [N, 2], where the texts of a row come from. Pairs with a text from each side are wanted.
      full: bool [N, B], which is set where a row is in a bucket of more than ALL_PAIRS rows.
      found: int64 [N], near duplicates of each row so far, counted by the caller. Two rows that both have MOST are no pair.

    Yields:
      int64 [2, P], P at most N: pairs of rows, the lower one first.
    """
    order, starts = _buckets(bands[:, band], found)
    sizes = np.diff(starts)
    large = np.flatnonzero(sizes > ALL_PAIRS)
    for bucket in large.tolist():
        full[order[starts[bucket] : starts[bucket + 1]], band] = True
    for left, right in chain(_all_pairs(order, starts), _with_representatives(order, starts, large, sides)):
        wanted = (sides[left, 0] & sides[right, 1]) | (sides[left, 1] & sides[right, 0])
        wanted &= (found[left] < MOST) | (found[right] < MOST)
        pairs = np.stack([left[wanted], right[wanted]])
        yield pairs[:, _agree_now(bands[pairs[0], :band] == bands[pairs[1], :band], full[pairs[0], :band])]


def _agree_now(earlier: np.ndarray, full: np.ndarray) -> np.ndarray:
    """Whether pairs that agree in this band agree in at least two for the first time: bool [P].

    Args:
      earlier: bool [P, B], in which bands before this one they agree.
      full: bool [P, B], where that was in a large bucket, which has not yielded all its pairs.
    """
    if not earlier.shape[1]:
        return np.zeros(len(earlier), bool)
    first = earlier & (np.cumsum(earlier, 1) == 1)
    return earlier.any(1) & ~(earlier & ~first & ~full).any(1)


def _buckets(numbers: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of equal numbers, one bucket after the other: int64 [R]; where each bucket begins, and the last one ends.

    Buckets without a pair are left out.
    """
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    bucket = np.cumsum(np.append(False, ordered[1:] != ordered[:-1]))[: len(order)]
    kept = (np.bincount(bucket) > 1) & (np.bincount(bucket, found[order] < MOST) > 0)
    order = order[kept[bucket]]
    return order, offsets_of(np.bincount(bucket)[kept])


def _all_pairs(order: np.ndarray, starts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of the buckets that are not large."""
    sizes = np.diff(starts)
    end = np.repeat(np.where(sizes <= ALL_PAIRS, starts[1:], 0), sizes)  # of the bucket of each place
    places = np.arange(len(order))
    for distance in range(1, ALL_PAIRS):
        places = places[places + distance < end[places]]
        if not len(places):
            return
        yield order[places], order[places + distance]


def _with_representatives(
    order: np.ndarray, starts: np.ndarray, large: np.ndarray, sides: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """In each large bucket, pairs of the first rows of each side with all rows."""
    for bucket in large.tolist():
        rows = order[starts[bucket] : starts[bucket + 1]]
        for one in np.unique(np.concatenate([rows[sides[rows, side]][:REPRESENTATIVES] for side in (0, 1)])):
            others = rows[rows != one]
            yield np.minimum(one, others), np.maximum(one, others)
