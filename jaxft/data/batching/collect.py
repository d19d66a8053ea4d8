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
        index = batches.examples(number)
        found = of_step(batches, examples, number, step)
        for name, value in found.sums.items():
            summary.sums[name] = summary.sums.get(name, 0) + np.asarray(value, np.float64)
        for name, value in found.examples.items():
            array = summary.examples.setdefault(name, np.zeros((len(examples), *value.shape[1:]), value.dtype))
            array[index] = value
        if found.tokens:
            lengths = examples.lengths[index]
            target = np.repeat(examples.starts[index], lengths) + places_in_rows(lengths)
            for name, value in found.tokens.items():
                array = summary.tokens.setdefault(name, np.zeros((examples.offsets[-1], *value.shape[1:]), value.dtype))
                array[target] = value
    return summary


def of_step(batches: EpochBatches, examples: Examples, number: int, step: Summary) -> Summary:
    """What a step, which has one micro-batch, gives for its examples, in their order in `batches`.

    Returns:
      Arrays [examples of the step, ...], and [their tokens, ...] one after another; the sums are unchanged.
    """
    index, (_, row, offset, slot) = batches.cells(number)
    lengths = examples.lengths[index]
    source = np.repeat(row, lengths), np.repeat(offset, lengths) + places_in_rows(lengths)
    return Summary(
        examples={name: value[row, slot] for name, value in step.examples.items()},
        sums=step.sums,
        tokens={name: value[source] for name, value in step.tokens.items()},
    )
