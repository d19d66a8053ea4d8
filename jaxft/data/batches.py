"""The planner: which examples share a step, and where each sits in the step's rows, in plain numpy.

The plan of an epoch is a function of (lengths, seed, epoch): nothing is stored, and to resume is to compute it again and
jump. A step always holds the same examples whatever the layout; packing only says where they sit.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxft.data.encode import Examples
from jaxft.data.order import epoch_order

Layout = Literal["pack", "bucket", "pad"]
MULTIPLE = 8  # row lengths are multiples of this; accelerators' tiles and cuDNN want even, aligned lengths
COMPILE = 25  # steps that take about as long as compiling one more shape
LONGEST_ROW = 512  # to which rows of several examples may grow; longer ones fill no better
# Row length at which attention costs as much as all else, for encoders as wide as D = 768: 6 D by count of operations, but
# 2.2 D by measurement (benchmarks.scaling), because it is less efficient.
ATTENTION = 1650
_SAMPLE = 16_384  # examples that the row length is chosen by
_CHUNK = 4_000_000  # cells of the packing table held at once


@dataclass(frozen=True, order=True)
class Shape:
    """A declared batch shape: rows of all micro-batches together, row length, and examples a row at most."""

    rows: int
    length: int
    slots: int


@dataclass(frozen=True)
class Planner:
    """How examples become batches; made once a run by `make_planner`.

    Attributes:
      lengths: tokens of each example, int64 [N].
      batch_size: examples a step.
      seed: of the order; None keeps the given order (evaluation: longest first).
      layout: pack, bucket or pad.
      shapes: every shape that a step may have, ascending; each is compiled once.
      micro_batches: parts that a step's rows are divided into.
    """

    lengths: np.ndarray
    batch_size: int
    seed: int | None
    layout: Layout
    shapes: tuple[Shape, ...]
    micro_batches: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Steps that hold every example once; the last may be smaller."""
        return -(-len(self.lengths) // self.batch_size)

    def plan_epoch(self, epoch: int) -> "EpochPlan":
        """Where every example of an epoch goes."""
        order = epoch_order(self.lengths, self.batch_size, self.seed, epoch)
        if self.layout == "pack":
            length, slots = self.shapes[0].length, self.shapes[0].slots
            row, offset, slot, used = pack(self.lengths[order], self.batch_size, length, slots, self.shapes[-1].rows)
            need = used
        else:
            index = np.arange(len(order)) % self.batch_size
            row, offset, slot = index, np.zeros_like(index), np.zeros_like(index)
            need = per_step_max(self.lengths[order], self.batch_size)
        ladder = np.array([s.rows if self.layout == "pack" else s.length for s in self.shapes])
        return EpochPlan(self, order, row, offset, slot, np.searchsorted(ladder, need))


@dataclass(frozen=True)
class EpochPlan:
    """The plan of one epoch. Arrays over examples are in the order in which they are trained on."""

    planner: Planner
    order: np.ndarray
    row: np.ndarray
    offset: np.ndarray
    slot: np.ndarray
    shape_index: np.ndarray

    def shape(self, step: int) -> Shape:
        """The shape of a step of this epoch."""
        return self.planner.shapes[self.shape_index[step]]

    def examples(self, step: int) -> np.ndarray:
        """The examples of a step."""
        return self.order[self._slice(step)]

    def _slice(self, step: int) -> slice:
        return slice(step * self.planner.batch_size, (step + 1) * self.planner.batch_size)

    def fill(self) -> float:
        """Share of the positions that hold real tokens."""
        cells = sum(s.rows * s.length * int((self.shape_index == i).sum()) for i, s in enumerate(self.planner.shapes))
        return float(self.planner.lengths[self.order].sum() / cells)

    def cells(self, step: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """The examples of a step and where they are: (micro-batch, row, first token, slot)."""
        chosen, parts = self._slice(step), self.planner.micro_batches
        # Rows are dealt out to micro-batches in turn, so that each gets its share of a half-empty last step.
        row = self.row[chosen]
        return self.order[chosen], (row % parts, row // parts, self.offset[chosen], self.slot[chosen])

    def batch(self, examples: Examples, step: int, rows: slice | None = None) -> dict[str, np.ndarray]:
        """The arrays of a step.

        Args:
          examples: what the planner's lengths are of.
          step: within the epoch.
          rows: which rows of each micro-batch to build (this process's share); None builds all.

        Returns:
          int32 `input_ids`, `token_type_ids`, `segment_ids`, `position_ids` and every other token column [K, R, T];
          `first_token` [K, R, M * group] int32, `weights` [K, R, M] float32 (0 in empty slots), `example` [K, R, M] int32
          (-1 in empty slots), and every per-example column [K, R, M, ...], where K is the number of micro-batches.
          `segment_ids` count the sequences of a row from 1.
        """
        shape, parts = self.shape(step), self.planner.micro_batches
        rows_each = shape.rows // parts
        index, (part, row, offset, slot) = self.cells(step)
        if rows is not None:
            here = (row >= rows.start) & (row < rows.stop)
            index, row, offset, slot, part = index[here], row[here] - rows.start, offset[here], slot[here], part[here]
            rows_each = rows.stop - rows.start
        return _assemble(examples, index, (part, row, offset, slot), (parts, rows_each, shape.length, shape.slots))


def token_type(column: np.ndarray) -> np.dtype:
    """What a token column is in a batch: whole numbers are int32."""
    return np.dtype(np.int32) if np.issubdtype(column.dtype, np.integer) else column.dtype


def _assemble(
    examples: Examples, index: np.ndarray, place: tuple[np.ndarray, ...], size: tuple[int, int, int, int]
) -> dict[str, np.ndarray]:
    part, row, offset, slot = place
    parts, rows, length, slots = size
    group = examples.group
    # Sequences of the examples, one after another: [examples, group].
    sequence = index[:, None] * group + np.arange(group)
    lengths = examples.offsets[sequence + 1] - examples.offsets[sequence]
    begin = offset[:, None] + np.cumsum(lengths, axis=1) - lengths
    number = slot[:, None] * group + np.arange(group)
    flat = lengths.ravel()
    inside = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
    source = np.repeat(examples.offsets[sequence].ravel(), flat) + inside
    target = np.repeat(((part * rows + row)[:, None] * length + begin).ravel(), flat) + inside

    def spread(values: np.ndarray) -> np.ndarray:
        array = np.zeros((parts * rows * length, *values.shape[1:]), token_type(values))
        array[target] = values
        return array.reshape(parts, rows, length, *values.shape[1:])

    batch = {name: spread(column[source]) for name, column in examples.tokens.items()}
    batch["segment_ids"] = spread(np.repeat(number.ravel() + 1, flat))
    batch["position_ids"] = spread(inside)
    batch["first_token"] = np.zeros((parts, rows, slots * group), np.int32)
    batch["first_token"][part[:, None], row[:, None], number] = begin
    cell = (part, row, slot)
    batch["weights"] = np.zeros((parts, rows, slots), np.float32)
    batch["weights"][cell] = 1
    batch["example"] = np.full((parts, rows, slots), -1, np.int32)
    batch["example"][cell] = index
    for name, column in examples.columns.items():
        array = np.zeros((parts, rows, slots, *column.shape[1:]), column.dtype)
        array[cell] = column[index]
        batch[name] = array
    return batch


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


def per_step_max(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """The longest example of every step."""
    return np.maximum.reduceat(lengths, np.arange(0, len(lengths), batch_size))


def make_planner(
    lengths: np.ndarray,
    *,
    batch_size: int,
    max_length: int,
    layout: Layout,
    epochs: int = 1,
    seed: int | None,
    shapes: int = 3,
    micro_batches: int = 1,
    shards: int = 1,
) -> Planner:
    """Choose the batch shapes of a run.

    Args:
      lengths: tokens of each example.
      batch_size: examples a step.
      max_length: longest sequence allowed.
      layout: pack, bucket or pad.
      epochs: how many epochs will be planned; the shapes fit every step of all of them.
      seed: of the order; None for evaluation.
      shapes: most shapes to choose.
      micro_batches: parts of a step.
      shards: devices that a micro-batch's rows are divided over.
    """
    unit = micro_batches * shards
    everything = {
        "lengths": lengths,
        "batch_size": batch_size,
        "seed": seed,
        "layout": layout,
        "micro_batches": micro_batches,
    }
    if layout != "pack":
        rows = _round_up(min(batch_size, len(lengths)), unit)
        if layout == "pad":
            return Planner(**everything, shapes=(Shape(rows, max_length, 1),))
        needs = [per_step_max(lengths[epoch_order(lengths, batch_size, seed, e)], batch_size) for e in range(epochs)]
        steps = np.minimum(_round_up(np.concatenate(needs), MULTIPLE), max(max_length, int(lengths.max())))
        return Planner(**everything, shapes=tuple(Shape(rows, t, 1) for t in choose_ladder(steps, shapes, COMPILE)))
    total_steps = epochs * -(-len(lengths) // batch_size)
    length = choose_row_length(lengths, batch_size, seed, unit, shapes, total_steps)
    slots = choose_slots(lengths, length)
    most = min(batch_size, len(lengths))
    bound = int(min(most, 2 * -(-np.sort(lengths)[-most:].sum() // length) + -(-most // slots) + 1))
    orders = (epoch_order(lengths, batch_size, seed, e) for e in range(epochs))
    needs = [pack(lengths[order], batch_size, length, slots, bound)[3] for order in orders]
    ladder = choose_ladder(_round_up(np.concatenate(needs), unit), shapes, COMPILE)
    return Planner(**everything, shapes=tuple(Shape(rows, length, slots) for rows in ladder))


def choose_row_length(
    lengths: np.ndarray, batch_size: int, seed: int | None, unit: int, shapes: int, total_steps: int
) -> int:
    """The row length for packing that costs least in at most `shapes` shapes; rows may be longer than any example.

    Attention makes longer rows dearer: a position costs 1 + T / ATTENTION. Rows are rounded up to whole units per step,
    which makes long rows wasteful for small batches.
    """
    longest = _round_up(int(lengths.max()), MULTIPLE)
    candidates = range(longest, max(longest, LONGEST_ROW) + 1, MULTIPLE)
    most = max(32 * batch_size, _SAMPLE)
    sample = lengths if len(lengths) <= most else lengths[np.random.default_rng(0).permutation(len(lengths))[:most]]
    sample = sample[epoch_order(sample, batch_size, seed, 0)]
    costs = []
    for t in candidates:
        used = _round_up(pack(sample, batch_size, t, choose_slots(lengths, t), min(batch_size, len(sample)))[3], unit)
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


def choose_ladder(needs: np.ndarray, most: int, price: float) -> list[int]:
    """At most `most` sizes, the largest need among them, that minimise the sum of sizes when each need takes the next
    larger size and every size costs `price` of the largest (exact, by dynamic programming over the distinct needs)."""
    values, counts = np.unique(needs, return_counts=True)
    total = np.concatenate([[0], np.cumsum(counts)])
    n = len(values)
    best = np.full(n + 1, np.inf)
    best[0] = 0
    choice = np.zeros((min(most, n) + 1, n + 1), np.int64)
    sums = []
    for k in range(1, min(most, n) + 1):
        current = np.full(n + 1, np.inf)
        for j in range(1, n + 1):
            costs = best[:j] + (total[j] - total[:j]) * values[j - 1]
            choice[k, j] = int(np.argmin(costs))
            current[j] = costs[choice[k, j]]
        best = current
        sums.append(best[n] + price * values[-1] * k)
    ladder = []
    j = n
    for k in range(int(np.argmin(sums)) + 1, 0, -1):
        ladder.append(int(values[j - 1]))
        j = choice[k, j]
        if j == 0:
            break
    return sorted(ladder)


def _round_up(value, multiple: int):  # type: ignore[no-untyped-def]  # int or array
    return -(-value // multiple) * multiple
