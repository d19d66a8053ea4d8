"""The training examples of each epoch of a run whose config has `augment.steps`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.progress import silent
from jaxft.core.ragged import offsets_of
from jaxft.data.augmentation.draws import PIECES, Draws
from jaxft.data.augmentation.engine import AUGMENTED
from jaxft.data.augmentation.pieces import PieceStep
from jaxft.data.augmentation.registry import Resources, make_augmenter
from jaxft.data.augmentation.synonyms import Synonyms
from jaxft.data.reading.columns import CHUNK
from jaxft.data.reading.empty_texts import EMPTY
from jaxft.data.reading.row_numbers import row_numbers
from jaxft.data.reading.spool import unload
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.replace import join_examples, replace_examples, select_examples
from jaxft.run.run_tokenizer import Vocabulary
from jaxft.tasks.task import Split, Task

TOO_LONG = "would be longer than all others"
WINDOWS = "would have another number of windows"


@dataclass(frozen=True)
class AugmentedExamples:
    """The examples of an epoch, and the counts of `EditedRows`."""

    examples: Examples
    counts: Mapping[str, int]

    def line(self, epoch: int) -> str:
        """A line for the log."""
        kept = [f"{n:,} {why}" for why, n in self.counts.items() if why != AUGMENTED and n]
        rest = f"; of these stay as they are: {', '.join(kept)}" if kept else ""
        return f"augmentation: {self.counts[AUGMENTED]:,} rows in epoch {epoch}{rest}"


@dataclass
class _Edits:
    """What the chunks of an epoch give: examples in the place of others, and steps on the pieces of rows."""

    counts: Counter[str] = field(default_factory=Counter)
    places: list[np.ndarray] = field(default_factory=list)
    examples: list[Examples] = field(default_factory=list)
    pieces: dict[int, Sequence[PieceStep]] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """What an epoch is made from: rows and their numbers in the file, and examples with the row of each, int64 [N]."""

    rows: Any
    numbers: Sequence[int]
    examples: Examples
    row_of: np.ndarray

    def select(self, chosen: np.ndarray) -> "Source":
        """The rows with the indices `chosen`, int64 [N], of a task with one example per row."""
        numbers = [self.numbers[i] for i in chosen.tolist()]
        return Source(self.rows.select(chosen), numbers, select_examples(self.examples, chosen), np.arange(len(chosen)))


class Augmentation:
    """Makes the examples of an epoch: a function of the seed, the epoch and the numbers of the rows.

    An edited row stays as it was if it would lose a text or an answer, would have another number of windows, or would be
    longer than every example of the data and of epoch 0, for which the batch shapes are made.

    Attributes:
      first: the examples of epoch 0, until they are used.
      longest: tokens of the longest example of any epoch.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        split: Split,
        vocabulary: Vocabulary,
        nearest: Callable[[int], Synonyms],
        chosen: Callable[[int], np.ndarray] | None = None,
        *,
        labelled: bool = True,
    ) -> None:
        """Make the steps and the examples of epoch 0.

        Args:
          config, task, vocabulary: of the run.
          split: the training data.
          nearest: as in `Resources`.
          chosen: the indices of the rows that an epoch is made of, int64 [N]; by default all.
          labelled: whether the rows have labels.

        Raises:
          UserError: for steps that cannot be used or made.
        """
        self._origin, self._vocabulary, self._chosen, self._labelled = split.origin, vocabulary, chosen, labelled
        rows = task.augmentable(split.rows, config, split.origin)
        self._task = rows.task
        numbers = row_numbers(split.rows).tolist()
        self._source = Source(rows.rows, numbers, split.examples, task.rows_of_examples(split))
        resources = Resources(rows.tagged, nearest, lambda: mask_of(vocabulary))
        self._augmenter = make_augmenter(config.augment, rows.fields, resources, seed=config.seed, task=task.kind)
        data = replace(config.data, cache=False, empty_texts="null")
        self.longest = data.max_length * split.examples.group
        if not data.truncation and rows.fields.truncated:  # a text that becomes too long is known by its length
            data = replace(data, truncation=True, max_length=data.max_length + 1)
        self._config = replace(config, data=data)
        self.first: AugmentedExamples | None = self._make(0)
        self.longest = max(int(x.lengths.max()) for x in (split.examples, self.first.examples))

    def epoch(self, epoch: int) -> AugmentedExamples:
        """The examples of an epoch, numbered from 0."""
        if epoch or self.first is None:
            return self._make(epoch)
        first, self.first = self.first, None
        return first

    def source(self, epoch: int) -> Source:
        """What an epoch is made from."""
        return self._source if self._chosen is None else self._source.select(self._chosen(epoch))

    def _make(self, epoch: int) -> AugmentedExamples:
        edits, source = _Edits(), self.source(epoch)
        with silent():
            for start in range(0, len(source.rows), CHUNK):
                self._edit_chunk(source, start, epoch, edits)
        examples = source.examples
        if edits.examples:
            examples = replace_examples(examples, np.concatenate(edits.places), join_examples(edits.examples))
        if edits.pieces:
            examples = self._with_pieces(source, examples, epoch, edits.pieces)
        return AugmentedExamples(examples, edits.counts)

    def _edit_chunk(self, source: Source, start: int, epoch: int, edits: _Edits) -> None:
        """Add what becomes of the rows from `start` on."""
        import datasets

        chunk = source.rows[start : start + CHUNK]
        edited = self._augmenter(chunk, source.numbers[start : start + CHUNK], epoch)
        unload()
        edits.counts.update(edited.counts)
        edits.pieces.update({start + i: steps for i, steps in edited.pieces.items()})
        if not edited.rows:
            return
        columns = {name: edited.columns.get(name) or [x[i] for i in edited.rows] for name, x in chunk.items()}
        rows = datasets.Dataset.from_dict(columns, features=source.rows.features)
        tokenizer, directory = self._vocabulary.tokenizer, self._vocabulary.directory
        split = self._task.encode(rows, tokenizer, directory, self._config, self._origin, labelled=self._labelled)
        row_of, indices = self._task.rows_of_examples(split), np.asarray(edited.rows) + start
        begins = np.searchsorted(source.row_of, indices)
        windows = np.searchsorted(source.row_of, indices, "right") - begins
        unlike = np.bincount(row_of, minlength=len(rows)) != windows
        unlike |= np.asarray(split.notes.get(EMPTY, False), bool)  # a question that leaves its context no room
        long = np.zeros(len(rows), bool)
        np.logical_or.at(long, row_of, split.examples.lengths > self.longest)
        edits.counts[WINDOWS] += int(unlike.sum())
        edits.counts[TOO_LONG] += int((long & ~unlike).sum())
        fits = ~(unlike | long)
        if fits.any():
            chosen = np.flatnonzero(fits[row_of])
            edits.examples.append(split.examples if fits.all() else select_examples(split.examples, chosen))
            pairs = zip(begins[fits].tolist(), windows[fits].tolist(), strict=True)
            edits.places.append(np.concatenate([np.arange(begin, begin + count) for begin, count in pairs]))

    def _with_pieces(
        self, source: Source, examples: Examples, epoch: int, pieces: Mapping[int, Sequence[PieceStep]]
    ) -> Examples:
        """The examples after the steps on the word pieces of these rows."""
        draws = Draws(self._augmenter.seed, epoch)
        free = self._task.free_pieces(examples, self._vocabulary.tokenizer)
        rows = np.array(sorted(pieces))
        ends = [(np.searchsorted(source.row_of, rows, side) * examples.group).tolist() for side in ("left", "right")]
        ids, left, offsets = np.array(examples.tokens["input_ids"]), np.ones(len(free), bool), examples.offsets.tolist()
        for row, first, last in zip(rows.tolist(), *ends, strict=True):
            draws.begin(source.numbers[row], PIECES)
            for sequence in range(first, last):
                part = slice(offsets[sequence], offsets[sequence + 1])
                for step in pieces[row]:
                    ids[part], kept = step(ids[part], free[part] & left[part], draws)
                    left[part] &= kept
        tokens: dict[str, Any] = {**examples.tokens, "input_ids": ids}
        if left.all():
            return replace(examples, tokens=tokens)
        lengths = np.add.reduceat(left, examples.offsets[:-1], dtype=np.int64)
        return replace(examples, tokens={name: x[left] for name, x in tokens.items()}, offsets=offsets_of(lengths))


def mask_of(vocabulary: Vocabulary) -> tuple[str, int]:
    """The mask token of a tokenizer and its id.

    Raises:
      UserError: if it has none.
    """
    tokenizer = vocabulary.tokenizer
    if tokenizer.mask_token_id is None:
        raise UserError(f"augment.steps: the tokenizer in {vocabulary.directory} has no mask token, which a step needs")
    return tokenizer.mask_token, tokenizer.mask_token_id
