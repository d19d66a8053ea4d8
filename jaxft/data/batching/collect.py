"""From what the steps of a plan read back to one array over all examples, in their order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxft.core.ragged import places_in_rows
from jaxft.data.batching.batch_sampler import EpochBatches
from jaxft.data.tokens.encode import Examples


@dataclass
class Collected:
    """What a pass over a split read back.

    Attributes:
      sums: added over the steps, in float64; `loss` and `weight` among them in evaluation.
      examples: [N, ...] from [R, M, ...] of every step.
      tokens: [total, ...] like `Examples.tokens`, from [R, T, ...].
    """

    sums: dict[str, np.ndarray] = field(default_factory=dict)
    examples: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: dict[str, np.ndarray] = field(default_factory=dict)


def collect(
    plan: EpochBatches,
    examples: Examples,
    steps: Iterable[Mapping[str, Mapping[str, Any]]],
    found: Collected | None = None,
) -> Collected:
    """Put every step's arrays (already on the host, one micro-batch) where their examples are.

    Every example is written once: which cell of a step holds which example is the plan's knowledge, so empty cells are
    never read. What is in `found` already is written to.
    """
    found = found or Collected()
    for step, summary in enumerate(steps):
        index, (_, row, offset, slot) = plan.cells(step)
        for name, value in summary.get("sums", {}).items():
            found.sums[name] = found.sums.get(name, 0) + np.asarray(value, np.float64)
        for name, value in summary.get("examples", {}).items():
            whole = found.examples.setdefault(name, np.zeros((len(examples), *value.shape[2:]), value.dtype))
            whole[index] = value[row, slot]
        if tokens := summary.get("tokens", {}):
            lengths = examples.lengths[index]
            inside = places_in_rows(lengths)
            target = np.repeat(examples.starts[index], lengths) + inside
            source = np.repeat(row, lengths), np.repeat(offset, lengths) + inside
            for name, value in tokens.items():
                whole = found.tokens.setdefault(name, np.zeros((examples.offsets[-1], *value.shape[2:]), value.dtype))
                whole[target] = value[source]
    return found
