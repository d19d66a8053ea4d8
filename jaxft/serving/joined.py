"""Examples of several requests as one, and its outputs as those of each."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxft.core.ragged import offsets_of
from jaxft.data.batching.collect import Summary
from jaxft.data.tokens.encode import Examples


def join(parts: Sequence[Examples]) -> Examples:
    """The examples of all parts, which have the same columns, in order."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    tokens = {name: np.concatenate([x.tokens[name] for x in parts]) for name in first.tokens}
    columns = {name: np.concatenate([x.columns[name] for x in parts]) for name in first.columns}
    lengths = np.concatenate([np.diff(x.offsets) for x in parts])
    return replace(first, tokens=tokens, offsets=offsets_of(lengths), columns=columns)


def split(summary: Summary, parts: Sequence[Examples]) -> list[Summary]:
    """The outputs of each part of `join(parts)`."""
    examples = np.cumsum([0, *(len(x) for x in parts)])
    tokens = np.cumsum([0, *(int(x.offsets[-1]) for x in parts)])
    return [
        Summary(
            examples={name: x[examples[i] : examples[i + 1]] for name, x in summary.examples.items()},
            tokens={name: x[tokens[i] : tokens[i + 1]] for name, x in summary.tokens.items()},
        )
        for i in range(len(parts))
    ]
