"""Tagged sentences, in the common form that all readers produce."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxft.data.formats.split_text import Bounds, split_text
from jaxft.data.reading.empty_texts import PLACEHOLDER, with_placeholders
from jaxft.data.reading.row_numbers import files_of, locate, with_files

WORDS, TAGS = "words", "tags"
TEXT, BEGINS, ENDS = "text", "begins", "ends"


@dataclass
class Sentences:
    """A growing list of sentences.

    Attributes:
      unit: `line` or `row`.
      words, tags: a list of texts for every sentence; the tags are only used if they are read.
      numbers: for every sentence the line or row number of each word, counted through all files.
      texts: the text that a sentence was split from; None if the file contains words.
      bounds: for every word its first character in the text and one past its last; empty without a text.
      empty: indices of sentences that represent a row without words (see `data.reading.empty_texts`).
      files: (name, number of lines or rows) of each file, in the order in which they were read.
    """

    unit: str
    words: list[list[str]] = field(default_factory=list)
    tags: list[list[str]] = field(default_factory=list)
    numbers: list[list[int]] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    bounds: list[Bounds] = field(default_factory=list)
    empty: set[int] = field(default_factory=set)
    files: list[tuple[str, int]] = field(default_factory=list)

    def add(self, word: str, tag: str, number: int, new: bool) -> None:
        """Append a word to the last sentence, or to a new one."""
        if new:
            self.add_sentence([], [], 0)
        self.words[-1].append(word)
        self.tags[-1].append(tag)
        self.numbers[-1].append(number)

    def add_sentence(self, words: Sequence[str], tags: Sequence[str], number: int) -> None:
        """Append a sentence from a single line or row."""
        self.words.append(list(words))
        self.tags.append(list(tags))
        self.numbers.append([number] * len(words))
        self.texts.append(None)
        self.bounds.append([])

    def add_text(self, text: str, bounds: Bounds, tags: Sequence[str], number: int) -> None:
        """Append a sentence that is a text split into words."""
        self.add_sentence([text[begin:end] for begin, end in bounds], tags, number)
        self.texts[-1], self.bounds[-1] = text, bounds

    def add_empty(self, tags: Sequence[str], number: int) -> None:
        """Append a placeholder for a row without words."""
        self.empty.add(len(self.words))
        self.add_sentence([PLACEHOLDER], tags, number)

    def extend(self, more: "Sentences") -> None:
        """Append the sentences of another file."""
        self.empty |= {len(self.words) + i for i in more.empty}
        self.words += more.words
        self.tags += more.tags
        before = sum(count for _, count in self.files)
        self.numbers += [[before + number for number in numbers] for numbers in more.numbers]
        self.files += more.files
        self.texts += more.texts
        self.bounds += more.bounds

    def rows(self, *, labelled: bool) -> Any:
        """A `datasets.Dataset` with the columns `words`, `line` or `row`, if labelled `tags`, and, if any sentence was split
        from a text, `text`, `begins` and `ends`."""
        import datasets

        words, numbers = datasets.List(datasets.Value("string")), datasets.List(datasets.Value("int32"))
        columns: dict[str, tuple[Any, Any]] = {WORDS: (self.words, words), self.unit: (self.numbers, numbers)}
        if labelled:
            columns[TAGS] = (self.tags, words)
        if any(text is not None for text in self.texts):
            columns[TEXT] = (self.texts, datasets.Value("string"))
            columns[BEGINS] = ([[begin for begin, _ in bounds] for bounds in self.bounds], numbers)
            columns[ENDS] = ([[end for _, end in bounds] for bounds in self.bounds], numbers)
        features = datasets.Features({name: kind for name, (_, kind) in columns.items()})
        values = {name: values for name, (values, _) in columns.items()}
        info = with_files(self.files)
        info.features = features
        rows = datasets.Dataset.from_dict(values, info=info)
        return with_placeholders(rows, np.isin(np.arange(len(rows)), list(self.empty)), {})


def location(rows: Any, sentence: int, word: int = 0) -> str:
    """`line 12` or `row 3`: the location of a sentence's word in its file."""
    return f"{_unit(rows)} {_locate(rows, '', sentence, word)[1]}"


def file_of(rows: Any, origin: str, sentence: int, word: int = 0) -> str:
    """The file that contains a sentence's word; `origin` if there is only one file."""
    return _locate(rows, origin, sentence, word)[0]


def _locate(rows: Any, origin: str, sentence: int, word: int) -> tuple[str, int]:
    return locate(files_of(rows), rows[sentence][_unit(rows)][word], origin)


def _unit(rows: Any) -> str:
    return "line" if "line" in rows.column_names else "row"


def without_space(begins: Sequence[int], ends: Sequence[int]) -> list[bool]:
    """For each word of a text, whether it follows the previous word without a space."""
    return [False, *(begin == end for begin, end in zip(begins[1:], ends[:-1], strict=True))][: len(begins)]


def split_mode(rows: Any) -> str | None:
    """How the texts of rows were split into words (see `split_text`); None if the data contain words."""
    if TEXT not in rows.column_names:
        return None
    for text, begins, ends in zip(rows[TEXT], rows[BEGINS], rows[ENDS], strict=True):
        if text is not None and list(zip(begins, ends, strict=True)) != split_text(text, "spaces"):
            return "punctuation"
    return "spaces"
