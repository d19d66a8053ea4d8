"""Which row of a step every example goes into, and how long rows are."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np

from jaxft.data.batching.bucket_sizes import COMPILE, MULTIPLE, choose_bucket_sizes, round_up

LONGEST_ROW = 512  # to which rows of several examples may grow; longer ones fill no better
# Row length at which attention costs as much as all else, for encoders as wide as D = 768: 6 D by count of operations, but
# 2.2 to 3.4 D by measurement (benchmarks.scaling), because it is less efficient.
ATTENTION = 1650
NEAR = 1.01  # ratio of prices that are not told apart
_SAMPLE = 16_384  # examples that the row length is chosen by
_CHUNK = 4_000_000  # cells of the packing table held at once


def pack(
    lengths: np.ndarray, batch_size: int, length: int, slots: int, enough: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First-fit decreasing inside every step, all steps at once; where that leaves more rows than `enough`, and than
    there are tokens for, rows as full as can be.

    Args:
      lengths: tokens of the examples in training order.
      batch_size: examples a step.
      length, slots: capacity of a row in tokens and in examples.
      enough: rows of which no step needs fewer.

    Returns:
      (row, offset, slot) of every example and the number of rows that each step uses.
    """
    total, steps = len(lengths), -(-len(lengths) // batch_size)
    padded = np.zeros(steps * batch_size, np.int64)
    padded[:total] = lengths
    table = padded.reshape(steps, batch_size)
    tokens = table.sum(axis=1)
    # First-fit leaves no two rows half empty, unless all slots of one are taken.
    rows = int(min(batch_size, 2 * -(-tokens.max(initial=0) // length) + -(-batch_size // slots) + 1))
    row, offset, slot = (np.zeros((steps, batch_size), np.int64) for _ in range(3))
    used = np.zeros(steps, np.int64)
    step_chunk = max(1, _CHUNK // rows)
    for start in range(0, steps, step_chunk):
        part = slice(start, start + step_chunk)
        _first_fit(table[part], length, slots, rows, row[part], offset[part], slot[part], used[part])
    for step in np.flatnonzero(used > np.maximum(-(-tokens // length), enough)):
        by_length = np.argsort(-table[step], kind="stable")[: np.count_nonzero(table[step])]
        places = fullest_rows(table[step, by_length].tolist(), length, slots)
        if (rows_used := 1 + max(places[0])) < used[step]:
            used[step] = rows_used
            for values, found in zip((row, offset, slot), places, strict=True):
                values[step, by_length] = found
    return row.ravel()[:total], offset.ravel()[:total], slot.ravel()[:total], used


def _first_fit(
    table: np.ndarray,
    length: int,
    slots: int,
    rows: int,
    row: np.ndarray,
    offset: np.ndarray,
    slot: np.ndarray,
    used: np.ndarray,
) -> None:
    steps = np.arange(len(table))
    by_length = np.argsort(-table, axis=1, kind="stable")
    filled = np.zeros((len(table), rows), np.int64)
    taken = np.zeros((len(table), rows), np.int64)
    for i in range(table.shape[1]):
        example = by_length[:, i]
        size = table[steps, example]
        fits = (filled + size[:, None] <= length) & (taken < slots)
        chosen = fits.argmax(axis=1)
        row[steps, example] = chosen
        offset[steps, example] = filled[steps, chosen]
        slot[steps, example] = taken[steps, chosen]
        real = size > 0
        filled[steps, chosen] += size
        taken[steps, chosen] += real
        used[:] = np.maximum(used, np.where(real, chosen + 1, 0))


def fullest_rows(sizes: Sequence[int], length: int, slots: int) -> tuple[list[int], list[int], list[int]]:
    """Row by row the longest example left and those of the others that fill its row most, long ones before short ones
    (minimum bin slack; Gupta and Ho, 1999).

    Args:
      sizes: tokens of each example, longest first.
      length, slots: capacity of a row in tokens and in examples.

    Returns:
      (row, offset, slot) of each example.
    """
    rows, offsets, places = ([0] * len(sizes) for _ in range(3))
    left, less, row = list(range(len(sizes))), [-size for size in sizes], 0
    while left:
        filled, taken = sizes[left[0]], 1
        rows[left.pop(0)] = row
        space = length + less.pop(0)
        every = (1 << space + 1) - 1
        # Bit s of sums[n]: some of the n shortest have s tokens together. Soon there is nothing that they cannot have.
        sums = [1]
        for size in reversed(less):
            if sums[-1] == every:
                break
            sums.append((sums[-1] | sums[-1] << -size) & every)
        space, at = sums[-1].bit_length() - 1, 0
        while space and taken < slots:  # what is left from `at` on can fill the space
            at = bisect_left(less, -space, at)
            if sums[min(len(less) - at - 1, len(sums) - 1)] >> space + less[at] & 1:
                example = left.pop(at)
                rows[example], offsets[example], places[example] = row, filled, taken
                filled, taken, space = filled + sizes[example], taken + 1, space + less.pop(at)
            else:
                at += 1
        row += 1
    return rows, offsets, places


def choose_row_length(
    ordered: np.ndarray,
    batch_size: int,
    unit: int,
    shapes: int,
    total_steps: int,
    lengthen: Callable[[int], int] = int,
) -> tuple[int, int]:
    """The row length for packing that costs least in at most `shapes` shapes, and the rows of the smallest of them; rows may
    be longer than any example.

    Attention makes longer rows dearer: a position costs 1 + T / ATTENTION. Rows are rounded up to whole units per step,
    which makes long rows wasteful for small batches. Where prices are the same as far as they are known, the fewest
    positions are taken: they need less memory.

    Args:
      ordered: tokens of the examples in the order of an epoch.
      batch_size, unit, shapes, total_steps, lengthen: as in `make_planner`; a step's rows are a multiple of `unit`.
    """
    longest = round_up(int(ordered.max()), MULTIPLE)
    candidates = {lengthen(t) for t in range(longest, max(longest, LONGEST_ROW) + 1, MULTIPLE)}
    # Steps as they are: rows are so full that others, with as many tokens on average, might not fit.
    steps, most = len(ordered) // batch_size, max(32, _SAMPLE // batch_size)
    if steps > most:
        chosen = np.random.default_rng(0).permutation(steps)[:most]
        ordered = ordered[: steps * batch_size].reshape(steps, batch_size)[chosen].ravel()
    tokens = np.add.reduceat(ordered, np.arange(0, len(ordered), batch_size))

    def price(t: int, rows: float) -> float:
        return rows * t * (1 + t / ATTENTION)

    # However well rows are filled.
    least = {t: price(t, round_up(-(-tokens // t), unit).sum()) for t in candidates}
    found: list[tuple[float, float, int, int]] = []  # (price, positions, row length, smallest shape's rows)
    for t in sorted(candidates, key=lambda t: (least[t], t)):
        if found and least[t] > NEAR * min(found)[0]:
            break
        used = round_up(pack(ordered, batch_size, t, choose_slots(ordered, t))[3], unit)
        compiling = COMPILE * len(used) / total_steps
        ladder = np.array(choose_bucket_sizes(used, shapes, compiling))
        rows = ladder[np.searchsorted(ladder, used)].sum() + compiling * ladder[-1] * len(ladder)
        found.append((price(t, rows), rows * t, t, int(ladder[0])))
    near = [x for x in found if x[0] <= NEAR * min(found)[0]]
    _, _, length, rows = min(near, key=lambda x: (x[1], x[2]))
    return length, rows


def choose_slots(lengths: np.ndarray, length: int) -> int:
    """Examples a row can hold: thrice the average, because the last rows get the short ones, but never more than can fit.

    With twice the average the limit decided, and cost a row in 25; heads that work on every slot are cheap beside a row.
    """
    average = length / lengths.mean()
    return int(max(1, min(length // lengths.min(), np.ceil(3 * average))))
