"""Packs the examples of a step into rows, and chooses the row length and the bucket sizes, of which each is compiled."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np

from jaxft.core.ragged import offsets_of

MULTIPLE = 8  # row lengths are multiples of this, since accelerators' tiles and cuDNN require aligned lengths
COMPILE = 25  # compiling one more shape takes about as long as this many steps
LONGEST_ROW = 512  # maximum length of rows with several examples; longer rows do not fill better
# Row length at which attention costs as much as all other layers, for encoders of width D = 768: 6 D by operation count, but
# 2.2 to 3.4 D by measurement (benchmarks.scaling), because attention is less efficient.
ATTENTION = 1650
NEAR = 1.01  # prices within this ratio count as equal
_SAMPLE = 16_384  # number of examples by which the row length is chosen
_CHUNK = 4_000_000  # cells of the packing table in memory at once


def pack(
    lengths: np.ndarray, batch_size: int, length: int, slots: int, min_rows: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Packs every step by first-fit decreasing, all steps at once. Steps that use more rows than `min_rows`, and more than
    their tokens could fill, are packed by `fullest_rows` instead if that uses fewer.

    Args:
      lengths: tokens of the examples in training order, [N].
      length, slots: capacity of a row in tokens and in examples.

    Returns:
      (row, offset, slot), int64 [N] each, and the number of rows that each step uses, int64 [steps].
    """
    total, steps = len(lengths), -(-len(lengths) // batch_size)
    table = np.pad(np.asarray(lengths, np.int64), (0, steps * batch_size - total)).reshape(steps, batch_size)
    tokens = table.sum(axis=1)
    # First-fit leaves at most one row less than half full, not counting rows without free slots.
    rows = int(min(batch_size, 2 * -(-tokens.max(initial=0) // length) + -(-batch_size // slots) + 1))
    positions, used = np.zeros((3, steps, batch_size), np.int64), np.zeros(steps, np.int64)
    step_chunk = max(1, _CHUNK // rows)
    for start in range(0, steps, step_chunk):
        part = slice(start, start + step_chunk)
        used[part] = _first_fit(table[part], length, slots, rows, positions[:, part])
    for step in np.flatnonzero(used > np.maximum(-(-tokens // length), min_rows)):
        by_length = np.argsort(-table[step], kind="stable")[: np.count_nonzero(table[step])]
        packed = fullest_rows(table[step, by_length].tolist(), length, slots)
        if (rows_used := 1 + max(packed[0])) < used[step]:
            used[step] = rows_used
            positions[:, step, by_length] = packed
    row, offset, slot = positions.reshape(3, -1)[:, :total]
    return row, offset, slot, used


def _first_fit(table: np.ndarray, length: int, slots: int, rows: int, positions: np.ndarray) -> np.ndarray:
    """Packs examples with `table` [steps, batch size] tokens, 0 for none, into at most `rows` rows per step.

    Writes their (row, offset, slot) into `positions` [3, steps, batch size], and returns the rows used, int64 [steps].
    """
    steps = np.arange(len(table))
    by_length = np.argsort(-table, axis=1, kind="stable")
    filled, taken = np.zeros((2, len(table), rows), np.int64)
    used = np.zeros(len(table), np.int64)
    for example in by_length.T:
        size = table[steps, example]
        chosen = ((filled + size[:, None] <= length) & (taken < slots)).argmax(axis=1)
        positions[:, steps, example] = chosen, filled[steps, chosen], taken[steps, chosen]
        real = size > 0
        filled[steps, chosen] += size
        taken[steps, chosen] += real
        used = np.maximum(used, np.where(real, chosen + 1, 0))
    return used


def fullest_rows(sizes: Sequence[int], length: int, slots: int) -> tuple[list[int], list[int], list[int]]:
    """Fills one row after another: the longest remaining example, and those others that fill the rest of the row most, long
    ones before short ones (minimum bin slack; Gupta and Ho, 1999).

    Returns (row, offset, slot), each a list over the examples. `sizes` are the tokens of each example, longest first, and
    `length` and `slots` the capacity of a row, as in `pack`.
    """
    rows, offsets, row_slots = ([0] * len(sizes) for _ in range(3))
    left, negative, row = list(range(len(sizes))), [-size for size in sizes], 0
    while left:
        filled, taken = sizes[left[0]], 1
        rows[left.pop(0)] = row
        space = length + negative.pop(0)
        all_sums = (1 << space + 1) - 1
        # Bit s of sums[n]: some of the n shortest examples have s tokens in total. Soon all sums are possible.
        sums = [1]
        for size in reversed(negative):
            if sums[-1] == all_sums:
                break
            sums.append((sums[-1] | sums[-1] << -size) & all_sums)
        space, at = sums[-1].bit_length() - 1, 0
        while space and taken < slots:  # some of the remaining examples from `at` on fill the space exactly
            at = bisect_left(negative, -space, at)
            if sums[min(len(negative) - at - 1, len(sums) - 1)] >> space + negative[at] & 1:
                example = left.pop(at)
                rows[example], offsets[example], row_slots[example] = row, filled, taken
                filled, taken, space = filled + sizes[example], taken + 1, space + negative.pop(at)
            else:
                at += 1
        row += 1
    return rows, offsets, row_slots


def choose_row_length(
    ordered: np.ndarray,
    batch_size: int,
    unit: int,
    shapes: int,
    total_steps: int,
    lengthen: Callable[[int], int] = int,
    longest: int = 0,
) -> tuple[int, int]:
    """Chooses the row length for packing with the lowest price in at most `shapes` shapes; it may exceed every example.

    Attention makes longer rows more expensive: a position costs 1 + T / ATTENTION. A step's rows are rounded up to a
    multiple of `unit`, which makes long rows wasteful for small batches. Among prices within NEAR, the fewest positions are
    chosen, because they need less memory.

    Returns (row length, rows of the smallest shape) for `ordered`, the tokens of the examples in the order of an epoch, [N];
    the other arguments are as in `make_sampler`.
    """
    longest = round_up(max(longest, int(ordered.max())), MULTIPLE)
    candidates = {lengthen(t) for t in range(longest, max(longest, LONGEST_ROW) + 1, MULTIPLE)}
    # A sample of the actual steps: rows are so full that random steps, with as many tokens on average, might not fit.
    steps, most = len(ordered) // batch_size, max(32, _SAMPLE // batch_size)
    if steps > most:
        chosen = np.random.default_rng(0).permutation(steps)[:most]
        ordered = ordered[: steps * batch_size].reshape(steps, batch_size)[chosen].ravel()
    tokens = np.add.reduceat(ordered, np.arange(0, len(ordered), batch_size))

    def price(t: int, rows: float) -> float:
        return rows * t * (1 + t / ATTENTION)

    # Lower bounds, for rows that are completely full.
    least = {t: price(t, round_up(-(-tokens // t), unit).sum()) for t in candidates}
    options: list[tuple[float, float, int, int]] = []  # (price, positions, row length, rows of the smallest shape)
    for t in sorted(candidates, key=lambda t: (least[t], t)):
        if options and least[t] > NEAR * min(options)[0]:
            break
        used = round_up(pack(ordered, batch_size, t, choose_slots(ordered, t))[3], unit)
        compiling = COMPILE * len(used) / total_steps
        sizes = np.array(choose_bucket_sizes(used, shapes, compiling))
        rows = sizes[np.searchsorted(sizes, used)].sum() + compiling * sizes[-1] * len(sizes)
        options.append((price(t, rows), rows * t, t, int(sizes[0])))
    nearly_best = [x for x in options if x[0] <= NEAR * min(options)[0]]
    _, _, length, rows = min(nearly_best, key=lambda x: (x[1], x[2]))
    return length, rows


def choose_slots(lengths: np.ndarray, length: int) -> int:
    """The most examples per row: three times the average, because the last rows get the short examples, but at most as many
    as can fit.

    Twice the average was too tight and cost one row in 25; heads compute every slot, which is cheap compared with a row.
    """
    average = length / lengths.mean()
    return int(max(1, min(length // lengths.min(), np.ceil(3 * average))))


def choose_bucket_sizes(needs: np.ndarray, most: int, price: float) -> list[int]:
    """Chooses at most `most` bucket sizes for `needs`, int [steps], at minimal total cost; one is the largest need.

    The cost of a need is the smallest size that is not below it, and every size also costs `price` times the largest need.
    The choice is exact, by dynamic programming over the distinct needs.
    """
    values, counts = np.unique(needs, return_counts=True)
    total, n = offsets_of(counts), len(values)
    best = np.append(0, np.full(n, np.inf))  # the lowest cost of the first j values in k sizes
    choices, sums = [], []
    for k in range(1, min(most, n) + 1):
        costs = (best[:j] + (total[j] - total[:j]) * values[j - 1] for j in range(1, n + 1))
        lowest = [(cost.min(), int(cost.argmin())) for cost in costs]
        best = np.array([np.inf, *(cost for cost, _ in lowest)])
        choices.append([before for _, before in lowest])
        sums.append(best[n] + price * values[-1] * k)
    sizes, j = [], n
    for choice in reversed(choices[: int(np.argmin(sums)) + 1]):
        sizes.append(int(values[j - 1]))
        j = choice[j - 1]
        if j == 0:
            break
    return sizes[::-1]


def round_up(value, multiple: int):  # type: ignore[no-untyped-def]  # int or array
    """The smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple
