"""The training examples of each epoch of a run whose config has `augment.steps`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.progress import in_steps, silent
from jaxft.core.ragged import offsets_of, places_in_rows
from jaxft.data.augmentation.draws import PIECES, Draws
from jaxft.data.augmentation.engine import DRAWN, UNCHANGED, outcome
from jaxft.data.augmentation.pieces import PieceStep
from jaxft.data.augmentation.registry import Resources, make_augmenter
from jaxft.data.augmentation.synonyms import Synonyms
from jaxft.data.reading.columns import CHUNK
from jaxft.data.reading.empty_texts import EMPTY
from jaxft.data.reading.row_numbers import row_numbers
from jaxft.data.reading.spool import unload
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.replace import (
    join_examples,
    replace_examples,
    select_examples,
    select_range,
    with_missing_columns,
)
from jaxft.run.run_tokenizer import Vocabulary
from jaxft.tasks.task import Split, Task

TOO_LONG = "longer than all other examples"
WINDOWS = "another number of windows"


@dataclass(frozen=True)
class AugmentedExamples:
    """The examples of an epoch, those that they were made of, the number of rows, and the counts of `EditedRows`."""

    examples: Examples
    given: Examples
    rows: int
    counts: Mapping[str, int]

    def line(self, epoch: int, of: str = "") -> str:
        """A line for the log; `of` begins with " of " and says what is augmented, if that is not the training data."""
        edited, kept = outcome(self.counts)
        rest = f", the others unchanged ({kept})" if kept else ""
        return (
            f"augmentation{of}: {self.counts[DRAWN]:,} of {self.rows:,} rows drawn in epoch {epoch}, {edited:,} edited{rest}"
        )


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
        self._task, numbers = rows.task, row_numbers(split.rows).tolist()
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

    def epoch(self, epoch: int, stop: Callable[[], bool] = lambda: False) -> AugmentedExamples:
        """The examples of an epoch, numbered from 0.

        Raises:
          CancelledError: as soon as `stop()`.
        """
        if epoch or self.first is None:
            with silent():
                return self._make(epoch, stop)
        first, self.first = self.first, None
        return first

    def source(self, epoch: int) -> Source:
        """What an epoch is made from."""
        return self._source if self._chosen is None else self._source.select(self._chosen(epoch))

    def _make(self, epoch: int, stop: Callable[[], bool] = lambda: False) -> AugmentedExamples:
        counts: Counter[str] = Counter()
        source, parts = self.source(epoch), []
        for start in in_steps(f"augmenting {self._origin}", len(source.rows), CHUNK):
            if stop():
                raise CancelledError
            parts.append(self._make_chunk(source, start, epoch, counts))
        return AugmentedExamples(join_examples(parts), source.examples, len(source.rows), counts)

    def _make_chunk(self, source: Source, start: int, epoch: int, counts: Counter[str]) -> Examples:
        """The examples of CHUNK rows from `start` on; counts are added up."""
        chunk, numbers = source.rows[start : start + CHUNK], source.numbers[start : start + CHUNK]
        edited = self._augmenter(chunk, numbers, epoch)
        unload()
        counts.update(edited.counts)
        begin, end = np.searchsorted(source.row_of, [start, start + len(numbers)])
        examples, row_of = select_range(source.examples, begin, end), source.row_of[begin:end] - start
        if edited.rows:
            columns = {name: edited.columns.get(name) or [x[i] for i in edited.rows] for name, x in chunk.items()}
            examples, kept = self._replaced(examples, row_of, np.asarray(edited.rows), columns, counts)
            for row in kept:
                edited.pieces.pop(row, None)
        if edited.pieces:
            examples, same = self._with_pieces(examples, row_of, edited.pieces, numbers, epoch)
            counts[UNCHANGED] += len(same - set(edited.rows))
        return examples

    def _replaced(
        self,
        examples: Examples,
        row_of: np.ndarray,
        rows: np.ndarray,
        columns: Mapping[str, Sequence[Any]],
        counts: Counter[str],
    ) -> tuple[Examples, list[int]]:
        """Replace the examples of edited rows.

        Args:
          examples, row_of: the examples, and the row of each.
          rows, columns: the edited rows.
          counts: is added to.

        Returns:
          The examples, and those of the edited rows whose examples stay as they were.
        """
        import datasets

        table = datasets.Dataset.from_dict(dict(columns), features=self._source.rows.features)
        tokenizer, directory = self._vocabulary.tokenizer, self._vocabulary.directory
        with silent():
            split = self._task.encode(table, tokenizer, directory, self._config, self._origin, labelled=self._labelled)
        new_row_of = self._task.rows_of_examples(split)
        begins = np.searchsorted(row_of, rows)
        windows = np.searchsorted(row_of, rows, "right") - begins
        unlike = np.bincount(new_row_of, minlength=len(rows)) != windows
        unlike |= np.asarray(split.notes.get(EMPTY, False), bool)  # a question that leaves its context no room
        long = np.zeros(len(rows), bool)
        np.logical_or.at(long, new_row_of, split.examples.lengths > self.longest)
        counts[WINDOWS] += int(unlike.sum())
        counts[TOO_LONG] += int((long & ~unlike).sum())
        fits = ~(unlike | long)
        where = np.repeat(begins[fits], windows[fits]) + places_in_rows(windows[fits])
        new = select_examples(split.examples, np.flatnonzero(fits[new_row_of]))
        return replace_examples(examples, where, with_missing_columns(new, examples, where)), rows[~fits].tolist()

    def _with_pieces(
        self,
        examples: Examples,
        row_of: np.ndarray,
        pieces: Mapping[int, Sequence[PieceStep]],
        numbers: Sequence[int],
        epoch: int,
    ) -> tuple[Examples, set[int]]:
        """The examples after steps on the word pieces of rows, by their index, and the rows that these did not change.

        `numbers` are those of the rows.
        """
        draws = Draws(self._augmenter.seed, epoch)
        free = self._task.free_pieces(examples, self._vocabulary.tokenizer)
        rows = np.array(sorted(pieces))
        ends = [(np.searchsorted(row_of, rows, side) * examples.group).tolist() for side in ("left", "right")]
        given, left, offsets = examples.tokens["input_ids"], np.ones(len(free), bool), examples.offsets.tolist()
        ids, same = np.array(given), set[int]()
        for row, first, last in zip(rows.tolist(), *ends, strict=True):
            draws.begin(numbers[row], PIECES)
            for sequence in range(first, last):
                part = slice(offsets[sequence], offsets[sequence + 1])
                for step in pieces[row]:
                    ids[part], kept = step(ids[part], free[part] & left[part], draws)
                    left[part] &= kept
            whole = slice(offsets[first], offsets[last])
            if left[whole].all() and np.array_equal(ids[whole], given[whole]):
                same.add(row)
        tokens: dict[str, Any] = {**examples.tokens, "input_ids": ids}
        if left.all():
            return replace(examples, tokens=tokens), same
        lengths = np.add.reduceat(left, examples.offsets[:-1], dtype=np.int64)
        tokens = {name: x[left] for name, x in tokens.items()}
        return replace(examples, tokens=tokens, offsets=offsets_of(lengths)), same


def mask_of(vocabulary: Vocabulary) -> tuple[str, int]:
    """The mask token of a tokenizer and its id.

    Raises:
      UserError: if it has none.
    """
    tokenizer = vocabulary.tokenizer
    if tokenizer.mask_token_id is None:
        raise UserError(f"augment.steps: the tokenizer in {vocabulary.directory} has no mask token, but a step needs it")
    return tokenizer.mask_token, tokenizer.mask_token_id
