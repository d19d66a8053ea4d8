"""Which examples share a step, and their positions in the step's rows, in plain numpy.

The batches of an epoch are a function of (lengths, seed, epoch). Nothing is stored: a resumed run computes them again and
skips steps. A step contains the same examples in every layout; packing only decides their positions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Literal, Protocol

import numpy as np

from jaxft.core.ragged import places_in_rows
from jaxft.core.random_streams import host_generator
from jaxft.data.batching.packing import (
    COMPILE,
    MULTIPLE,
    choose_bucket_sizes,
    choose_row_length,
    choose_slots,
    pack,
    round_up,
)
from jaxft.data.tokens.encode import Examples

Layout = Literal["pack", "bucket", "pad"]
Parts = tuple[tuple[int, int], ...]


class Orders(Protocol):
    """Orders of epochs that have other examples than each example once, in full steps."""

    def order(self, epoch: int, *, expected: bool = False) -> np.ndarray:
        """The examples of an epoch in training order; with `expected`, as they may be, without waiting for anything."""
        ...


# Shapes are chosen by the batches of a few epochs: at least 4 and at most 200, of at most 4 million examples in total. The
# batches of a million epochs would take hours to compute.
SAMPLED_EPOCHS = (4, 200)
SAMPLED_EXAMPLES = 4_000_000
# Standard deviation of the noise on the logarithm of lengths before examples are sorted into strata. Without noise, examples
# of similar length would never share a step. With 0.3, two that share a step do so again in the next epoch about as often as
# by chance, and the steps' numbers of tokens still differ by less than an example's length.
NOISE = 0.3


# If lengths differ between epochs, a packed step may need more rows than any of the epochs that shapes are chosen by. One
# more shape, which only such steps use, has this many times their rows.
HEADROOM = 1.2


@dataclass(frozen=True, order=True)
class Shape:
    """A batch shape: the rows of all micro-batches together, the row length in tokens, and the most examples per row."""

    rows: int
    length: int
    slots: int


@dataclass(frozen=True)
class BatchSampler:
    """Divides examples into batches; made once per run by `make_sampler`.

    Attributes:
      lengths: tokens of each example, int64 [N].
      batch_size: examples per step.
      seed: seed of the order; None orders by length, longest first (evaluation).
      layout: pack, bucket or pad.
      shapes: the shapes that steps may have, ascending; each is compiled once. If they were chosen by some epochs only
        (`SAMPLED_EPOCHS`), a packed step of another epoch may need more rows, and then has a further shape.
      micro_batches: number of parts that a step's rows are divided into.
      unit: the number of rows of every step is a multiple of it.
      parts: the kinds of examples that every step is made of, each as (examples of this kind, examples of this kind per
        step); empty if there is one kind. Examples of a kind follow one another, and all kinds last for the same number of
        steps.
    """

    lengths: np.ndarray
    batch_size: int
    seed: int | None
    layout: Layout
    shapes: tuple[Shape, ...]
    micro_batches: int = 1
    unit: int = 1
    parts: Parts = ()
    orders: Orders | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps per epoch, in which every example occurs once; the last step may be smaller."""
        return -(-len(self.lengths) // self.batch_size)

    def epoch_batches(self, epoch: int) -> "EpochBatches":
        """Computes the batches of an epoch."""
        shapes = self.shapes
        if self.orders:
            order = self.orders.order(epoch)
        else:
            order = epoch_order(self.lengths, self.batch_size, self.seed, epoch, self.parts)
        lengths = self.lengths[order]
        if self.layout == "pack":
            row, offset, slot, need = pack(lengths, self.batch_size, shapes[0].length, shapes[0].slots, shapes[0].rows)
            more = np.unique(round_up(need[need > shapes[-1].rows], self.unit))
            shapes += tuple(replace(shapes[-1], rows=int(rows)) for rows in more)
            sizes = [shape.rows for shape in shapes]
        else:
            row = np.arange(len(order)) % self.batch_size
            offset, slot = np.zeros_like(row), np.zeros_like(row)
            need = per_step_max(lengths, self.batch_size)
            sizes = [shape.length for shape in shapes]
        begins = np.append(np.arange(0, len(order), self.batch_size), len(order))
        return EpochBatches(self, order, row, offset, slot, begins, np.searchsorted(sizes, need), shapes)


@dataclass(frozen=True)
class EpochBatches:
    """The batches of one epoch.

    Attributes:
      order: int64 [N], the examples in training order; all other arrays over examples are in this order.
      row, offset, slot: int64 [N], for each example its row in the step, its first token in the row, and its number among
        the row's examples.
      begins: int64 [steps + 1], where the examples of each step begin in these arrays, and their end.
      shape_index: int64 [steps], indices into `shapes`.
      shapes: the sampler's shapes, and possibly more.
    """

    sampler: BatchSampler
    order: np.ndarray
    row: np.ndarray
    offset: np.ndarray
    slot: np.ndarray
    begins: np.ndarray
    shape_index: np.ndarray
    shapes: tuple[Shape, ...]

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.shape_index)

    def shape(self, step: int) -> Shape:
        """The shape of a step of this epoch."""
        return self.shapes[self.shape_index[step]]

    def examples(self, step: int) -> np.ndarray:
        """The examples of a step."""
        return self.order[self._slice(step)]

    def _slice(self, step: int) -> slice:
        return slice(int(self.begins[step]), int(self.begins[step + 1]))

    def fill(self) -> float:
        """The share of positions that hold tokens rather than padding."""
        cells = sum(s.rows * s.length * int((self.shape_index == i).sum()) for i, s in enumerate(self.shapes))
        return float(self.sampler.lengths[self.order].sum() / cells)

    def cells(self, step: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """(examples of a step, (micro-batch, row, first token, slot) of each), all int64 [examples of the step]."""
        chosen, parts = self._slice(step), self.sampler.micro_batches
        # Rows are distributed over micro-batches round-robin, so that each gets a share of a smaller last step.
        row = self.row[chosen]
        return self.order[chosen], (row % parts, row // parts, self.offset[chosen], self.slot[chosen])

    def batch(self, examples: Examples, step: int, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Builds the arrays of a step from the examples whose lengths the sampler has.

        `rows`, ascending, are the rows of each micro-batch to build (this process's share); None builds all.

        Returns:
          int32 `input_ids`, `token_type_ids`, `segment_ids`, `position_ids` and every other token column [K, R, T];
          `first_token` [K, R, M * group] int32, `weights` [K, R, M] float32 (0 in empty slots), `example` [K, R, M] int32
          (-1 in empty slots), and every per-example column [K, R, M, ...], where K is the number of micro-batches.
          `segment_ids` count the sequences of a row from 1.
        """
        shape, parts, group = self.shape(step), self.sampler.micro_batches, examples.group
        rows = np.arange(shape.rows // parts) if rows is None else rows
        count = len(rows)
        place = np.full(shape.rows // parts, -1)
        place[rows] = np.arange(count)
        index, cells = self.cells(step)
        local = place[cells[1]] >= 0
        index, (part, row, offset, slot) = index[local], (x[local] for x in cells)
        row = place[row]
        # The sequences of each example: [examples, group].
        sequence = index[:, None] * group + np.arange(group)
        starts, lengths = examples.offsets[sequence], examples.offsets[sequence + 1] - examples.offsets[sequence]
        begin = offset[:, None] + np.cumsum(lengths, axis=1) - lengths
        number = slot[:, None] * group + np.arange(group)
        flat = lengths.ravel()
        inside = places_in_rows(flat)
        source = np.repeat(starts.ravel(), flat) + inside
        target = np.repeat(((part * count + row)[:, None] * shape.length + begin).ravel(), flat) + inside

        def spread(values: np.ndarray) -> np.ndarray:
            """Values of tokens [tokens, ...] as [K, R, T, ...]."""
            array = np.zeros((parts * count * shape.length, *values.shape[1:]), token_type(values))
            array[target] = values
            return array.reshape(parts, count, shape.length, *values.shape[1:])

        def in_slots(values: np.ndarray, empty: int = 0) -> np.ndarray:
            """Values of examples [examples, ...] as [K, R, M, ...]."""
            array = np.full((parts, count, shape.slots, *values.shape[1:]), empty, values.dtype)
            array[part, row, slot] = values
            return array

        batch = {name: spread(column[source]) for name, column in examples.tokens.items()}
        batch["segment_ids"] = spread(np.repeat(number.ravel() + 1, flat))
        batch["position_ids"] = spread(inside)
        batch["first_token"] = in_slots(begin.astype(np.int32)).reshape(parts, count, shape.slots * group)
        batch["weights"] = in_slots(np.ones(len(index), np.float32))
        batch["example"] = in_slots(index.astype(np.int32), empty=-1)
        return batch | {name: in_slots(column[index]) for name, column in examples.columns.items()}


def token_type(column: np.ndarray) -> np.dtype:
    """The dtype of a token column in a batch: int32 for integers, else unchanged."""
    return np.dtype(np.int32) if np.issubdtype(column.dtype, np.integer) else column.dtype


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int | None, epoch: int, parts: Parts = ()) -> np.ndarray:
    """The examples, of `lengths` [N] tokens, in training order: a permutation, int64 [N], a function of the arguments.

    Steps of full batches are stratified by length: each step takes one example from every stratum, and steps with fewer
    tokens so far get the longer examples of a stratum. So all steps need about the same number of rows, and one shape fits
    them. Every example is still equally likely in every step. A smaller last step holds a random remainder. If `seed` is
    None (for evaluation), the order is by length instead, longest first.
    """
    if seed is None:
        return np.argsort(-lengths, kind="stable")
    rng = host_generator(seed, epoch)
    if parts:
        return interleaved(lengths, parts, rng)
    return stratified(lengths, batch_size, rng)


def interleaved(lengths: np.ndarray, parts: Parts, rng: np.random.Generator) -> np.ndarray:
    """The order of steps that are made of several kinds of examples, each stratified on its own."""
    begins, steps = np.cumsum([0, *(count for count, _ in parts)]).tolist(), []
    for begin, (count, size) in zip(begins, parts, strict=False):
        order = begin + stratified(lengths[begin : begin + count], size, rng)
        steps.append([order[i : i + size] for i in range(0, count, size)])
    return np.concatenate([x for step in zip(*steps, strict=True) for x in step])


def stratified(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """An order in which each full step has an example of every stratum by length; see `epoch_order`."""
    order = rng.permutation(len(lengths))
    steps = len(lengths) // batch_size
    stratified = order[: steps * batch_size]
    noisy = np.log(np.maximum(lengths[stratified], 1)) + NOISE * rng.standard_normal(len(stratified))
    strata = stratified[np.argsort(-noisy, kind="stable")].reshape(batch_size, steps)
    batches = np.empty((steps, batch_size), np.int64)
    tokens = np.zeros(steps, np.int64)
    for number, stratum in enumerate(strata):
        longest_first = stratum[np.argsort(-lengths[stratum], kind="stable")]
        emptiest_first = np.argsort(tokens, kind="stable")
        batches[emptiest_first, number] = longest_first
        tokens[emptiest_first] += lengths[longest_first]
    order[: len(stratified)] = rng.permutation(batches).ravel()
    return order


def per_step_max(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """The length of the longest example of every step: [N] -> [steps]."""
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
    longest: int = 0,
    parts: Parts = (),
    orders: Orders | None = None,
) -> BatchSampler:
    """Makes the sampler of a run and chooses its batch shapes.

    Args:
      lengths, batch_size, layout, seed, micro_batches: as in `BatchSampler`.
      max_length: the maximum length of a sequence.
      epochs: epochs of the run; the shapes fit every step of the epochs that they are chosen by.
      shapes: the maximum number of shapes.
      shards: devices that a micro-batch's rows are divided over.
      lengthen: maps a row length to the length to which the device's attention kernel pads it (not used for layout pad).
      longest: tokens of the longest example of any epoch, if lengths differ between epochs and `lengths` are those of the
        first.
      parts: as in `BatchSampler`; `batch_size` is the sum over the kinds.
      orders: as in `BatchSampler`.
    """
    unit = micro_batches * shards
    # One more than all examples is as good as any larger size: the only step is a smaller one.
    batch_size = min(batch_size, len(lengths) + 1)
    seen = min(epochs, max(SAMPLED_EPOCHS[0], min(SAMPLED_EPOCHS[1], SAMPLED_EXAMPLES // max(1, len(lengths)))))
    price = COMPILE * seen / epochs  # of one more shape, in steps of the sampled epochs
    kinds = {"parts": parts, "orders": orders}
    make = partial(BatchSampler, lengths, batch_size, seed, layout, micro_batches=micro_batches, unit=unit, **kinds)

    def order(epoch: int) -> np.ndarray:
        return orders.order(epoch, expected=True) if orders else epoch_order(lengths, batch_size, seed, epoch, parts)

    ordered = (lengths[order(epoch)] for epoch in range(seen))
    if layout != "pack":
        rows = round_up(min(batch_size, len(lengths)), unit)
        if layout == "pad":
            return make((Shape(rows, max_length, 1),))
        needs = np.concatenate([*(per_step_max(x, batch_size) for x in ordered), [longest] if longest else []]).astype(int)
        steps = np.minimum(round_up(needs, MULTIPLE), max(max_length, int(lengths.max())))
        longer = np.array([lengthen(int(t)) for t in range(int(steps.max()) + 1)])
        sizes = choose_bucket_sizes(longer[steps], shapes, price)
        return make(tuple(Shape(rows, t, 1) for t in sizes))
    total_steps = epochs * -(-len(lengths) // batch_size)
    first = next(ordered)
    length, min_rows = choose_row_length(first, batch_size, unit, shapes, total_steps, lengthen, longest)
    slots = choose_slots(lengths, length)
    needs = np.concatenate([pack(x, batch_size, length, slots, min_rows)[3] for x in chain([first], ordered)])
    spare = [round_up(math.ceil(int(needs.max()) * HEADROOM), unit)] if longest and shapes > 1 else []
    sizes = choose_bucket_sizes(round_up(needs, unit), shapes - len(spare), price)
    return make(tuple(Shape(int(rows), length, slots) for rows in np.unique([*sizes, *spare])))
