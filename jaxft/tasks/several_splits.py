"""The examples of several tasks as those of one: task after task, each with columns that only its own examples fill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxft.core.ragged import offsets_of
from jaxft.data.batching.collect import Summary
from jaxft.data.tokens.encode import Examples
from jaxft.tasks.task import Split

TASK = "task"  # int32 [N]: the number of the task that an example has
SHARED_TOKENS = ("input_ids", "token_type_ids")  # token columns of every task


@dataclass(frozen=True)
class SeveralSplits(Split):
    """A split of several tasks.

    Attributes:
      rows: numbers of all rows, those of the first task first.
      examples: column `labels` of the task NAME is called "NAME/labels", and is 0 for the examples of others. "NAME/example"
        is the number of an example among those of its task, by which masks are drawn.
      parts: the split of each task that has one, by name, in the order of the tasks.
      begins: where the examples of each task begin, and the last ones end, by number of the task, int64 [tasks + 1].
    """

    parts: Mapping[str, Split] = field(default_factory=dict)
    begins: Sequence[int] = (0,)

    def part(self, summary: Summary, name: str, number: int) -> Summary:
        """What was collected for a task, the one of this name and number, as if it were alone."""
        own = slice(*self.begins[number : number + 2])
        starts = self.examples.offsets[:: self.examples.group]
        tokens = slice(int(starts[own.start]), int(starts[own.stop]))
        prefix = f"{name}/"

        def select(values: Mapping[str, Any], rows: slice | None) -> dict[str, Any]:
            return {
                key.removeprefix(prefix): x if rows is None else x[rows]
                for key, x in values.items()
                if key.startswith(prefix)
            }

        return Summary(select(summary.examples, own), select(summary.sums, None), select(summary.tokens, tokens))


def combine(parts: Mapping[str, Split], like: Mapping[str, Examples]) -> SeveralSplits:
    """The split of several tasks.

    Args:
      parts: the split of each task that has one.
      like: examples of every task, in order, with the columns of its training data; all splits have the columns of all.
    """
    own = {name: parts[name].examples if name in parts else examples.first(0) for name, examples in like.items()}
    begins = offsets_of(np.array([len(x) for x in own.values()]))
    ends = offsets_of(np.array([int(x.offsets[-1]) for x in own.values()]))
    tokens = {name: np.concatenate([x.tokens[name] for x in own.values()]) for name in SHARED_TOKENS}
    columns = {TASK: np.repeat(np.arange(len(own), dtype=np.int32), np.diff(begins))}
    for number, (name, examples) in enumerate(own.items()):
        others = {key: x for key, x in examples.tokens.items() if key not in SHARED_TOKENS}
        tokens |= _spread(name, others, int(ends[-1]), int(ends[number]))
        numbered = {**examples.columns, "example": np.arange(len(examples), dtype=np.int32)}
        columns |= _spread(name, numbered, int(begins[-1]), int(begins[number]))
    group = max(x.group for x in own.values())
    offsets = np.concatenate([[0], *(_ends(x, group) + end for x, end in zip(own.values(), ends, strict=False))])
    return SeveralSplits(
        rows=range(sum(len(x.rows) for x in parts.values())),
        examples=Examples(tokens, offsets.astype(np.int64), columns, group),
        origin=", ".join(x.origin for x in parts.values()),
        parts={name: parts[name] for name in like if name in parts},
        begins=begins.tolist(),
    )


def _ends(examples: Examples, group: int) -> np.ndarray:
    """Where the texts of examples end, for `group` texts each, of which those that they lack are empty, int64."""
    ends = examples.offsets[1:].reshape(-1, examples.group)
    return np.pad(ends, ((0, 0), (0, group - examples.group)), mode="edge").ravel()


def _spread(task: str, columns: Mapping[str, np.ndarray], total: int, begin: int) -> dict[str, np.ndarray]:
    """Columns of a task among those of all; pages of zeros that are only read take no memory."""
    found = {}
    for key, x in columns.items():
        found[f"{task}/{key}"] = array = np.zeros((total, *x.shape[1:]), x.dtype)
        array[begin : begin + len(x)] = x
    return found
