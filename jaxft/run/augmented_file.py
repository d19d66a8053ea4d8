"""Augmented copies of the training rows of a run, as tables that a file can hold."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.progress import in_steps
from jaxft.data.augmentation.document import Document
from jaxft.data.augmentation.draws import PROPOSALS, Draws
from jaxft.data.augmentation.engine import DRAWN, outcome
from jaxft.data.augmentation.fields import TextFields
from jaxft.data.augmentation.masked_words import MaskWords, Proposals, fill_masks, taken_words
from jaxft.data.augmentation.pieces import PieceStep
from jaxft.data.augmentation.registry import Resources, make_augmenter
from jaxft.data.augmentation.synonyms import Synonyms
from jaxft.data.reading.columns import CHUNK
from jaxft.data.reading.empty_texts import check_not_kept
from jaxft.data.reading.row_numbers import row_numbers
from jaxft.data.reading.spool import unload
from jaxft.run.assembly import open_model
from jaxft.run.augmentation import mask_of
from jaxft.run.model_setup import check_given, resolve_model
from jaxft.run.nearest_words import nearest_words
from jaxft.run.splits import read_rows

NO_WORD = "the masked LM proposes no other word"


class AugmentedFile:
    """The training rows of a run and their copies.

    Attributes:
      counts: of the copies, as in `EditedRows`.
      notes: lines for the log.
    """

    def __init__(self, config: Config, proposals: Callable[[Config, int], Proposals]) -> None:
        """Read the rows and make the steps.

        Args:
          config: of the run; its `augment.share` is not used.
          proposals: makes the proposals of a masked LM, from the config and the number of proposals for each mask.

        Raises:
          UserError: for data that cannot be read, or steps that cannot be made, or that a file cannot hold.
        """
        check_given(config)
        check_not_kept(config.data)
        directory, hf_config = resolve_model(config)
        read = read_rows(config, directory, hf_config)
        self._task, rows, vocabulary = read.task, read.rows["train"], read.vocabulary
        self._config, self.notes, self.counts = config, read.notes, Counter[str]()
        self._numbers = row_numbers(rows).tolist()
        given = self._task.augmentable(rows, config, read.origins["train"])
        self._rows, self._fields = given.rows, given.fields
        masked = [x for x in config.augment.steps if x.source == "masked_lm"]
        if masked and not isinstance(given.fields, TextFields):
            raise UserError(f"augment.steps: source masked_lm cannot be used for {self._task.kind}: it is for whole texts")

        def nearest(count: int) -> Synonyms:
            tokenizer, origin = vocabulary.tokenizer, read.origins["train"]
            examples = self._task.encode(rows, tokenizer, vocabulary.directory, config, origin).examples
            _, params = open_model(config, self._task, hf_config)
            return nearest_words(params, tokenizer, examples, count)

        resources = Resources(given.tagged, nearest, lambda: mask_of(vocabulary), proposes=True)
        whole = replace(config.augment, share=1.0)
        made = make_augmenter(whole, given.fields, resources, seed=config.seed, task=self._task.kind)
        if any(isinstance(step, PieceStep) for step in made.steps):
            raise UserError("augment.steps: mask_pieces and drop_pieces edit word pieces, but a file has texts: omit them")
        self._masked: list[Document] = []  # the documents of a row in which a step has put masks
        steps = [_Recorded(step, self._masked) if isinstance(step, MaskWords) else step for step in made.steps]
        self._augmenter = replace(made, steps=steps)
        self._candidates = max((x.candidates for x in masked), default=0)
        self._propose = proposals(config, self._candidates) if masked else None
        self._mask = mask_of(vocabulary)[0] if masked else ""

    @property
    def rows(self) -> int:
        """The number of rows that are copied."""
        return len(self._rows)

    def tables(self, copies: int) -> Iterator[Any]:
        """Arrow tables of the rows, and of those copies that differ from them; copy n is edited as in epoch n, from 0."""
        import datasets

        kind = type(self._task)
        yield from kind.file_tables(self._rows, self._config)
        chunks = -(-self.rows // CHUNK)
        for step in in_steps("augmenting", chunks * copies, 1):
            copy, chunk = divmod(step, chunks)
            start = chunk * CHUNK
            given = self._rows[start : start + CHUNK]
            found = self._copies(given, self._numbers[start : start + CHUNK], copy)
            unload()
            if found:
                columns = {name: [row[name] for row in found] for name in given}
                made = datasets.Dataset.from_dict(columns, features=self._rows.features)
                yield from kind.file_tables(made, self._config)

    def line(self) -> str:
        """What became of the copies."""
        edited, left_out = outcome(self.counts)
        rest = f", the others left out ({left_out})" if left_out else ""
        return f"augmentation: {edited:,} of {self.counts[DRAWN]:,} copies edited{rest}"

    def _copies(self, chunk: Mapping[str, Sequence[Any]], numbers: Sequence[int], copy: int) -> list[dict[str, Any]]:
        """The edited rows of a chunk."""
        names, columns = list(chunk), self._fields.columns
        found: list[dict[str, Any]] = []
        masked: list[_MaskedRow] = []
        for number, values in zip(numbers, zip(*chunk.values(), strict=True), strict=True):
            row = dict(zip(names, values, strict=True))
            self._masked.clear()
            edited = self._augmenter({name: [row[name]] for name in columns}, [number], copy)
            self.counts.update(edited.counts)
            if edited.rows:
                edited_row = row | {name: edited.columns[name][0] for name in columns}
                found.append(self._fields.as_copy(edited_row, copy + 1))
                if self._masked:
                    masked.append(_MaskedRow(len(found) - 1, number, [taken_words(x) for x in self._masked]))
        return self._filled(found, masked, copy) if masked else found

    def _filled(self, rows: list[dict[str, Any]], masked: Sequence["_MaskedRow"], copy: int) -> list[dict[str, Any]]:
        """The rows with words in the place of masks, without those for which the model has none."""
        assert self._propose is not None
        columns, draws, lost = self._fields.columns, Draws(self._config.seed, copy), set()
        proposed = iter(self._propose([text for x in masked for text in _texts(rows[x.index], columns)]))
        for x in masked:
            draws.begin(x.number, PROPOSALS)
            own = list(islice(proposed, len(x.taken)))
            filled = [
                fill_masks(text, self._mask, taken, words, self._candidates, draws) if taken else text
                for text, taken, words in zip(_texts(rows[x.index], columns), x.taken, own, strict=True)
            ]
            if None in filled:
                self.counts[NO_WORD] += 1
                lost.add(x.index)
            else:
                rows[x.index] = _with_texts(rows[x.index], columns, iter(filled))
        return [row for i, row in enumerate(rows) if i not in lost]


@dataclass(frozen=True)
class _MaskedRow:
    """A row with masks: its index among the edited ones, its number, and for each text the words that were taken out."""

    index: int
    number: int
    taken: list[list[str]]


@dataclass(frozen=True)
class _Recorded:
    """A step that also records the documents that it was applied to."""

    step: MaskWords
    documents: list[Document]

    def __call__(self, document: Document, draws: Draws) -> None:
        self.step(document, draws)
        if not self.documents or self.documents[-1] is not document:
            self.documents.append(document)


def _texts(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """The texts of a row that are not empty, in the order in which steps edit them."""
    values = (row[name] if isinstance(row[name], list) else [row[name]] for name in columns)
    return [text for texts in values for text in texts if text]


def _with_texts(row: Mapping[str, Any], columns: Sequence[str], texts: Iterator[str | None]) -> dict[str, Any]:
    """The row with other texts in the place of those of `_texts`."""
    new = dict(row)
    for name in columns:
        value = row[name]
        new[name] = [next(texts) if x else x for x in value] if isinstance(value, list) else next(texts) if value else value
    return new
