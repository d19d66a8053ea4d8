"""Collects the results of the steps of an epoch into arrays over all examples, in the order of the examples."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxft.core.ragged import places_in_rows
from jaxft.data.batching.batch_sampler import EpochBatches
from jaxft.data.tokens.encode import Examples


@dataclass
class Collected:
    """The results of a pass over a split.

    Attributes:
      sums: sums over the steps, in float64; in evaluation they include `loss` and `weight`.
      examples: [N, ...] from [R, M, ...] of every step.
      tokens: [total, ...] like `Examples.tokens`, from [R, T, ...].
    """

    sums: dict[str, np.ndarray] = field(default_factory=dict)
    examples: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: dict[str, np.ndarray] = field(default_factory=dict)


def collect(
    batches: EpochBatches,
    examples: Examples,
    steps: Iterable[Mapping[str, Mapping[str, Any]]],
    collected: Collected | None = None,
) -> Collected:
    """Collects the arrays of every step.

    Every example is written once. `batches` says which cell of a step holds which example, so empty cells are never read.

    Args:
      batches: the batches that the steps ran on, in order.
      examples: the examples of the batches.
      steps: for each step its `sums`, `examples` [R, M, ...] and `tokens` [R, T, ...], on the host, of one micro-batch.
      collected: results to add to; None starts empty.
    """
    collected = collected or Collected()
    for step, summary in enumerate(steps):
        index, (_, row, offset, slot) = batches.cells(step)
        for name, value in summary.get("sums", {}).items():
            collected.sums[name] = collected.sums.get(name, 0) + np.asarray(value, np.float64)
        for name, value in summary.get("examples", {}).items():
            array = collected.examples.setdefault(name, np.zeros((len(examples), *value.shape[2:]), value.dtype))
            array[index] = value[row, slot]
        if tokens := summary.get("tokens", {}):
            lengths = examples.lengths[index]
            inside = places_in_rows(lengths)
            target = np.repeat(examples.starts[index], lengths) + inside
            source = np.repeat(row, lengths), np.repeat(offset, lengths) + inside
            for name, value in tokens.items():
                array = collected.tokens.setdefault(name, np.zeros((examples.offsets[-1], *value.shape[2:]), value.dtype))
                array[target] = value[source]
    return collected
