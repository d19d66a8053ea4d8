"""The sampler: which examples share a step, and where each sits in the step's rows, in plain numpy.

The plan of an epoch is a function of (lengths, seed, epoch): nothing is stored, and to resume is to compute it again and
jump. A step always holds the same examples whatever the layout; packing only says where they sit.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np

from jaxft.core.ragged import places_in_rows
from jaxft.data.batching.bucket_sizes import COMPILE, MULTIPLE, choose_bucket_sizes, round_up
from jaxft.data.batching.order import epoch_order
from jaxft.data.batching.packing import choose_row_length, choose_slots, pack
from jaxft.data.tokens.encode import Examples

Layout = Literal["pack", "bucket", "pad"]
# Epochs that shapes are chosen by: at least and at most so many, of so many examples together. To plan all of a million
# epochs would take hours before the first step.
LOOKED_AT = (4, 200)
LOOKED_AT_EXAMPLES = 4_000_000


@dataclass(frozen=True, order=True)
class Shape:
    """A declared batch shape: rows of all micro-batches together, row length, and examples a row at most."""

    rows: int
    length: int
    slots: int


@dataclass(frozen=True)
class BatchSampler:
    """How examples become batches; made once a run by `make_planner`.

    Attributes:
      lengths: tokens of each example, int64 [N].
      batch_size: examples a step.
      seed: of the order; None keeps the given order (evaluation: longest first).
      layout: pack, bucket or pad.
      shapes: every shape that a step may have, ascending; each is compiled once. Of very many epochs only some are looked at
        beforehand (`LOOKED_AT`): a packed step of another one may need more rows, and then has a shape of its own.
      micro_batches: parts that a step's rows are divided into.
      unit: of which the rows of every step are a multiple.
    """

    lengths: np.ndarray
    batch_size: int
    seed: int | None
    layout: Layout
    shapes: tuple[Shape, ...]
    micro_batches: int = 1
    unit: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Steps that hold every example once; the last may be smaller."""
        return -(-len(self.lengths) // self.batch_size)

    def epoch_batches(self, epoch: int) -> "EpochBatches":
        """Where every example of an epoch goes."""
        order = epoch_order(self.lengths, self.batch_size, self.seed, epoch)
        if self.layout == "pack":
            length, slots = self.shapes[0].length, self.shapes[0].slots
            row, offset, slot, need = pack(self.lengths[order], self.batch_size, length, slots, self.shapes[0].rows)
        else:
            index = np.arange(len(order)) % self.batch_size
            row, offset, slot = index, np.zeros_like(index), np.zeros_like(index)
            need = per_step_max(self.lengths[order], self.batch_size)
        shapes = self.shapes
        if self.layout == "pack" and need.max() > shapes[-1].rows:
            more = np.unique(round_up(need[need > shapes[-1].rows], self.unit))
            shapes += tuple(replace(shapes[-1], rows=int(rows)) for rows in more)
        ladder = np.array([s.rows if self.layout == "pack" else s.length for s in shapes])
        return EpochBatches(self, order, row, offset, slot, np.searchsorted(ladder, need), shapes)


@dataclass(frozen=True)
class EpochBatches:
    """The plan of one epoch, with its shapes. Arrays over examples are in the order in which they are trained on."""

    sampler: BatchSampler
    order: np.ndarray
    row: np.ndarray
    offset: np.ndarray
    slot: np.ndarray
    shape_index: np.ndarray
    shapes: tuple[Shape, ...]

    def shape(self, step: int) -> Shape:
        """The shape of a step of this epoch."""
        return self.shapes[self.shape_index[step]]

    def examples(self, step: int) -> np.ndarray:
        """The examples of a step."""
        return self.order[self._slice(step)]

    def _slice(self, step: int) -> slice:
        return slice(step * self.sampler.batch_size, (step + 1) * self.sampler.batch_size)

    def fill(self) -> float:
        """Share of the positions that hold real tokens."""
        cells = sum(s.rows * s.length * int((self.shape_index == i).sum()) for i, s in enumerate(self.shapes))
        return float(self.sampler.lengths[self.order].sum() / cells)

    def cells(self, step: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """The examples of a step and where they are: (micro-batch, row, first token, slot)."""
        chosen, parts = self._slice(step), self.sampler.micro_batches
        # Rows are dealt out to micro-batches in turn, so that each gets its share of a half-empty last step.
        row = self.row[chosen]
        return self.order[chosen], (row % parts, row // parts, self.offset[chosen], self.slot[chosen])

    def batch(self, examples: Examples, step: int, rows: slice | None = None) -> dict[str, np.ndarray]:
        """The arrays of a step.

        Args:
          examples: what the sampler's lengths are of.
          step: within the epoch.
          rows: which rows of each micro-batch to build (this process's share); None builds all.

        Returns:
          int32 `input_ids`, `token_type_ids`, `segment_ids`, `position_ids` and every other token column [K, R, T];
          `first_token` [K, R, M * group] int32, `weights` [K, R, M] float32 (0 in empty slots), `example` [K, R, M] int32
          (-1 in empty slots), and every per-example column [K, R, M, ...], where K is the number of micro-batches.
          `segment_ids` count the sequences of a row from 1.
        """
        shape, parts = self.shape(step), self.sampler.micro_batches
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
    inside = places_in_rows(flat)
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


def per_step_max(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """The longest example of every step."""
    return np.maximum.reduceat(lengths, np.arange(0, len(lengths), batch_size))


def make_sampler(
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
    lengthen: Callable[[int], int] = int,
) -> BatchSampler:
    """Choose the batch shapes of a run.

    Args:
      lengths: tokens of each example.
      batch_size: examples a step.
      max_length: longest sequence allowed.
      layout: pack, bucket or pad.
      epochs: how many epochs will be planned; the shapes fit every step of those that are looked at.
      seed: of the order; None for evaluation.
      shapes: most shapes to choose.
      micro_batches: parts of a step.
      shards: devices that a micro-batch's rows are divided over.
      lengthen: to what a device would have a row of so many tokens lengthened (a pure function; not for layout pad).
    """
    unit = micro_batches * shards
    batch_size = min(batch_size, len(lengths) + 1)  # beyond all examples, as far as one: the last step is a smaller one
    seen = min(epochs, max(LOOKED_AT[0], min(LOOKED_AT[1], LOOKED_AT_EXAMPLES // max(1, len(lengths)))))
    price = COMPILE * seen / epochs  # of a shape, beside the steps that are looked at
    everything = {
        "lengths": lengths,
        "batch_size": batch_size,
        "seed": seed,
        "layout": layout,
        "micro_batches": micro_batches,
        "unit": unit,
    }
    if layout != "pack":
        rows = round_up(min(batch_size, len(lengths)), unit)
        if layout == "pad":
            return BatchSampler(**everything, shapes=(Shape(rows, max_length, 1),))
        needs = [per_step_max(lengths[epoch_order(lengths, batch_size, seed, e)], batch_size) for e in range(seen)]
        steps = np.minimum(round_up(np.concatenate(needs), MULTIPLE), max(max_length, int(lengths.max())))
        longer = np.array([lengthen(int(t)) for t in range(int(steps.max()) + 1)])
        sizes = choose_bucket_sizes(longer[steps], shapes, price)
        return BatchSampler(**everything, shapes=tuple(Shape(rows, t, 1) for t in sizes))
    total_steps = epochs * -(-len(lengths) // batch_size)
    ordered = (lengths[epoch_order(lengths, batch_size, seed, e)] for e in range(seen))
    first = next(ordered)
    length, enough = choose_row_length(first, batch_size, unit, shapes, total_steps, lengthen)
    slots = choose_slots(lengths, length)
    needs = [pack(x, batch_size, length, slots, enough)[3] for x in chain([first], ordered)]
    ladder = choose_bucket_sizes(round_up(np.concatenate(needs), unit), shapes, price)
    return BatchSampler(**everything, shapes=tuple(Shape(rows, length, slots) for rows in ladder))
