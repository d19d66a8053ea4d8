"""Collects the results of the steps of an epoch into arrays over all examples, in the order of the examples."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxft.core.ragged import places_in_rows
from jaxft.data.batching.batch_sampler import EpochBatches
from jaxft.data.tokens.encode import Examples


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Summary:
    """What evaluation or prediction reads back: from one step, and collected from all steps over a split.

    Attributes:
      examples: arrays [R, M, ...] of a step, [N, ...] of a split.
      sums: sums over the examples, in float64 over a split; in evaluation they include `loss` and `weight`.
      tokens: arrays [R, T, ...] of a step, [total, ...] of a split, like `Examples.tokens`.
    """

    examples: dict[str, Any] = field(default_factory=dict)
    sums: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, Any] = field(default_factory=dict)


def collect(batches: EpochBatches, examples: Examples, steps: Iterable[Summary], summary: Summary | None = None) -> Summary:
    """Adds the results of all steps of an epoch, each of one micro-batch in numpy arrays, to `summary`, or to an empty one.

    Every example is written once. `batches` says which cell of a step holds which example, so empty cells are never read.
    """
    summary = summary or Summary()
    for number, step in enumerate(steps):
        index, (_, row, offset, slot) = batches.cells(number)
        for name, value in step.sums.items():
            summary.sums[name] = summary.sums.get(name, 0) + np.asarray(value, np.float64)
        for name, value in step.examples.items():
            array = summary.examples.setdefault(name, np.zeros((len(examples), *value.shape[2:]), value.dtype))
            array[index] = value[row, slot]
        if step.tokens:
            lengths = examples.lengths[index]
            inside = places_in_rows(lengths)
            target = np.repeat(examples.starts[index], lengths) + inside
            source = np.repeat(row, lengths), np.repeat(offset, lengths) + inside
            for name, value in step.tokens.items():
                array = summary.tokens.setdefault(name, np.zeros((examples.offsets[-1], *value.shape[2:]), value.dtype))
                array[target] = value[source]
    return summary
