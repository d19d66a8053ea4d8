"""Candidate pairs: rows that agree in at least one band, found by sorting each band."""

from collections.abc import Iterator

import numpy as np

ALL_PAIRS = 64  # rows of a bucket in which all pairs are compared
REPRESENTATIVES = 16  # of a larger bucket, from each side, with which all its rows are compared


def candidates(bands: np.ndarray, band: int, sides: np.ndarray, full: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs that agree in a band, and in no earlier band in which they were compared.

    Args:
      bands: a number for each band of each row, uint32 [N, B].
      band: which band to sort.
      sides: bool [N, 2], where the texts of a row come from. Pairs with a text from each side are wanted.
      full: bool [N, B], which is set where a row is in a bucket of more than ALL_PAIRS rows.

    Yields:
      int64 [2, P], P at most N: pairs of rows, the lower one first.
    """
    order = np.argsort(bands[:, band], kind="stable")
    numbers = bands[order, band]
    starts = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]])) if len(order) else np.zeros(0, np.int64)
    ends = np.append(starts[1:], len(order))
    for start, end in zip(*((x[ends - starts > ALL_PAIRS]).tolist() for x in (starts, ends)), strict=True):
        full[order[start:end], band] = True
    for left, right in _pairs(order, starts, ends, sides):
        wanted = (sides[left, 0] & sides[right, 1]) | (sides[left, 1] & sides[right, 0])
        pairs = np.stack([left[wanted], right[wanted]])
        compared = (bands[pairs[0], :band] == bands[pairs[1], :band]) & ~full[pairs[0], :band]
        yield pairs[:, ~compared.any(1)]


def _pairs(
    order: np.ndarray, starts: np.ndarray, ends: np.ndarray, sides: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    sizes = ends - starts
    small = (sizes > 1) & (sizes <= ALL_PAIRS)
    end = np.repeat(np.where(small, ends, 0), sizes)  # of the bucket of each place
    places = np.arange(len(order))
    for distance in range(1, ALL_PAIRS):
        places = places[places + distance < end[places]]
        if not len(places):
            break
        yield order[places], order[places + distance]
    for start, stop in zip(starts[sizes > ALL_PAIRS].tolist(), ends[sizes > ALL_PAIRS].tolist(), strict=True):
        rows = order[start:stop]
        chosen = [rows[sides[rows, side]][:REPRESENTATIVES] for side in (0, 1)]
        for one in np.unique(np.concatenate(chosen)):
            others = rows[rows != one]
            yield np.minimum(one, others), np.maximum(one, others)
