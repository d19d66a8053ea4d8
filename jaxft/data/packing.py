"""Which row of a step every example goes into, and how long rows are."""

from collections.abc import Callable

import numpy as np

from jaxft.data.ladder import COMPILE, MULTIPLE, choose_ladder, round_up
from jaxft.data.order import epoch_order

LONGEST_ROW = 512  # to which rows of several examples may grow; longer ones fill no better
# Row length at which attention costs as much as all else, for encoders as wide as D = 768: 6 D by count of operations, but
# 2.2 D by measurement (benchmarks.scaling), because it is less efficient.
ATTENTION = 1650
_SAMPLE = 16_384  # examples that the row length is chosen by
_CHUNK = 4_000_000  # cells of the packing table held at once


def pack(
    lengths: np.ndarray, batch_size: int, length: int, slots: int, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First-fit decreasing inside every step, all steps at once.

    Args:
      lengths: tokens of the examples in training order.
      batch_size: examples a step.
      length, slots: capacity of a row in tokens and in examples.
      rows: rows to try; at least what any step needs.

    Returns:
      (row, offset, slot) of every example and the number of rows that each step uses.
    """
    total, steps = len(lengths), -(-len(lengths) // batch_size)
    padded = np.zeros(steps * batch_size, np.int64)
    padded[:total] = lengths
    table = padded.reshape(steps, batch_size)
    row, offset, slot = (np.zeros((steps, batch_size), np.int64) for _ in range(3))
    used = np.zeros(steps, np.int64)
    step_chunk = max(1, _CHUNK // rows)
    for start in range(0, steps, step_chunk):
        part = slice(start, start + step_chunk)
        _pack_steps(table[part], length, slots, rows, row[part], offset[part], slot[part], used[part])
    return row.ravel()[:total], offset.ravel()[:total], slot.ravel()[:total], used


def _pack_steps(
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


def choose_row_length(
    lengths: np.ndarray,
    batch_size: int,
    seed: int | None,
    unit: int,
    shapes: int,
    total_steps: int,
    lengthen: Callable[[int], int] = int,
) -> int:
    """The row length for packing that costs least in at most `shapes` shapes; rows may be longer than any example.

    Attention makes longer rows dearer: a position costs 1 + T / ATTENTION. Rows are rounded up to whole units per step,
    which makes long rows wasteful for small batches.
    """
    longest = round_up(int(lengths.max()), MULTIPLE)
    candidates = sorted({lengthen(t) for t in range(longest, max(longest, LONGEST_ROW) + 1, MULTIPLE)})
    most = max(32 * batch_size, _SAMPLE)
    sample = lengths if len(lengths) <= most else lengths[np.random.default_rng(0).permutation(len(lengths))[:most]]
    sample = sample[epoch_order(sample, batch_size, seed, 0)]
    costs = []
    for t in candidates:
        used = round_up(pack(sample, batch_size, t, choose_slots(lengths, t), min(batch_size, len(sample)))[3], unit)
        price = COMPILE * len(used) / total_steps
        ladder = np.array(choose_ladder(used, shapes, price))
        rows = ladder[np.searchsorted(ladder, used)].sum() + price * ladder[-1] * len(ladder)
        costs.append(rows * t * (1 + t / ATTENTION))
        if ladder[-1] == unit:  # longer ones would only be emptier
            break
    return candidates[int(np.argmin(costs))]


def choose_slots(lengths: np.ndarray, length: int) -> int:
    """Examples a row can hold: thrice the average, because the last rows get the short ones, but never more than can fit.

    With twice the average the limit decided, and cost a row in 25; heads that work on every slot are cheap beside a row.
    """
    average = length / lengths.mean()
    return int(max(1, min(length // lengths.min(), np.ceil(3 * average))))
