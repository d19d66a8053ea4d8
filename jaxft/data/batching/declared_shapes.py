"""Batches in a few declared shapes, whatever lengths come: for prediction, whose later texts are unknown."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxft.data.batching.batch_sampler import BatchSampler, EpochBatches, Shape
from jaxft.data.batching.packing import MULTIPLE, round_up

SHORTEST = 16  # tokens of the shortest row
PACKED = 128  # tokens of the shortest row of a step of several rows: below this, attention costs nothing
GROWTH = 4  # a row length has steps of 1, 4, 16 ... rows
WASTE = 1.25  # a larger step is taken instead of several smaller ones if it has at most this many times their rows
SHORT = 4  # tokens of an example on average, at least, in a row whose slots are all taken


def declare_shapes(longest: int, tokens: int, unit: int = 1, lengthen: Callable[[int], int] = int) -> tuple[Shape, ...]:
    """The shapes, ascending by row length and number of rows.

    Row lengths are SHORTEST times powers of 2, up to the longest example, and the middle between two of them for texts that
    come alone: these have no steps of several rows.

    Args:
      longest: tokens of the longest example.
      tokens: tokens of the largest step.
      unit: the number of rows of a step is a multiple of it.
      lengthen: maps a row length to the length to which the device's attention kernel pads it.
    """
    end = round_up(max(longest, SHORTEST), MULTIPLE)
    powers = {lengthen(min(SHORTEST << i, end)) for i in range(end.bit_length())}
    between = {lengthen(min(3 * SHORTEST // 2 << i, end)) for i in range(end.bit_length())}
    shapes = []
    for length in sorted(powers | between):
        rows = unit
        while rows == unit or (length in powers and length >= min(PACKED, end) and rows * length <= tokens):
            shapes.append(Shape(rows, length, max(1, length // SHORT)))
            rows *= GROWTH
    return tuple(shapes)


def batches_in(lengths: np.ndarray, shapes: Sequence[Shape], unit: int = 1) -> EpochBatches:
    """Batches of examples with `lengths` [N] tokens in declared shapes; each example fits into the longest.

    One example, or few short ones, get one row that is as short as possible. Otherwise rows of at least PACKED tokens are
    filled by first-fit decreasing, and rows of the same length are divided over steps.
    """
    total, order = int(lengths.sum()), np.argsort(-lengths, kind="stable")
    row_lengths = sorted({shape.length for shape in shapes})
    base = min(PACKED, row_lengths[-1])
    fits = [x for x in row_lengths if x >= total and x // SHORT >= len(lengths)]
    if fits and (fits[0] <= base or len(lengths) == 1):
        chosen = fits[:1]
    else:
        # Of lengths between two powers there are no steps of several rows: they are for texts that come alone.
        between = {x for x in row_lengths[:-1] if 2 * x // 3 in row_lengths}
        chosen = [x for x in row_lengths if x >= base and x not in between]
    row, offset, slot, opened = _fill_rows(lengths[order], chosen)
    steps = [
        (shape, rows)
        for length in np.unique(opened)
        for shape, rows in _divide(np.flatnonzero(opened == length), length, shapes)
    ]
    step_of, row_in_step = np.zeros((2, len(opened)), np.int64)
    for number, (_, rows) in enumerate(steps):
        step_of[rows], row_in_step[rows] = number, np.arange(len(rows))
    by_step = np.argsort(step_of[row], kind="stable")
    begins = np.searchsorted(step_of[row][by_step], np.arange(len(steps) + 1))
    sampler = BatchSampler(lengths, max(1, len(lengths)), None, "pack", tuple(shapes), unit=unit)
    index = [shapes.index(shape) for shape, _ in steps]
    cells = (row_in_step[row][by_step], offset[by_step], slot[by_step])
    return EpochBatches(sampler, order[by_step], *cells, begins, np.array(index, np.int64), tuple(shapes))


def _fill_rows(lengths: np.ndarray, row_lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First-fit decreasing of `lengths`, longest first, into rows that are as long as their first example needs.

    Returns (row, offset, slot) of each example, int64 [N], and the length of each row, int64 [rows].
    """
    count = len(lengths)
    length, filled, taken = np.zeros((3, count), np.int64)
    row, offset, slot = np.zeros((3, count), np.int64)
    used = 0
    for i, size in enumerate(lengths.tolist()):
        free = (filled[:used] + size <= length[:used]) & (taken[:used] < length[:used] // SHORT)
        chosen = int(free.argmax()) if free.any() else used
        if chosen == used:
            length[used] = next(x for x in row_lengths if x >= size)
            used += 1
        row[i], offset[i], slot[i] = chosen, filled[chosen], taken[chosen]
        filled[chosen] += size
        taken[chosen] += 1
    return row, offset, slot, length[:used]


def _divide(rows: np.ndarray, length: int, shapes: Sequence[Shape]) -> list[tuple[Shape, np.ndarray]]:
    """Divide rows of one length over steps: (shape, its rows) of each."""
    own = [shape for shape in shapes if shape.length == length]
    found = []
    while len(rows):
        left = len(rows)
        larger = next((x for x in own if left <= x.rows), None)
        fitting = [x for x in own if x.rows <= left]
        shape = larger if larger and (not fitting or larger.rows <= WASTE * left) else fitting[-1]
        found.append((shape, rows[: shape.rows]))
        rows = rows[shape.rows :]
    return found
