"""The batches in which a teacher runs over all examples: a function of their lengths alone.

They depend neither on the options of a run nor on the number of devices, and every step has a contiguous range of the
examples, so outputs can be written as they come and computing can go on from any step: the bits are the same.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from jaxft.data.batching.batch_sampler import BatchSampler, EpochBatches, Shape
from jaxft.data.batching.packing import COMPILE, MULTIPLE, choose_bucket_sizes, choose_slots, pack, round_up

TOKENS = 16_384  # of a step, on average
ROW = 128  # shortest rows, in tokens: with shorter ones there is more padding
UNIT = 8  # rows of a step are a multiple of this, so that up to 8 devices share them evenly
SHAPES = 3


def fixed_batches(lengths: np.ndarray, shards: int = 1, lengthen: Callable[[int], int] = int) -> EpochBatches:
    """The batches of examples with these lengths [N], in their order, equally many in each.

    Args:
      shards: devices, over which the rows are divided. Empty rows are added where they do not divide them evenly.
      lengthen: as in `make_sampler`.
    """
    count = len(lengths)
    size = int(np.clip(TOKENS / lengths.mean(), 1, count))
    length = lengthen(int(round_up(max(lengths.max(), min(ROW, lengths.sum())), MULTIPLE)))
    slots = choose_slots(lengths, length)
    row, offset, slot, need = pack(lengths, size, length, slots, size)
    need = round_up(round_up(need, UNIT), shards)
    rows = choose_bucket_sizes(need, SHAPES, COMPILE)
    shapes = tuple(Shape(x, length, slots) for x in rows)
    sampler = BatchSampler(lengths, size, None, "pack", shapes, unit=shards)
    begins = np.append(np.arange(0, count, size), count)
    return EpochBatches(sampler, np.arange(count), row, offset, slot, begins, np.searchsorted(rows, need), shapes)


def from_step(batches: EpochBatches, first: int) -> EpochBatches:
    """The batches from a step on."""
    return replace(batches, begins=batches.begins[first:], shape_index=batches.shape_index[first:])
