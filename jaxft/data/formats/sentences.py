"""Tagged sentences of every kind of file as one kind of data set."""

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
    """Sentences as they are read.

    Attributes:
      unit: `line` or `row`.
      words, tags: a list of text for every sentence; tags only where they are wanted.
      places: the line of each word, or the row, counted through all files.
      texts: what a sentence was cut from; None where the file holds words.
      bounds: of each word, the first of its characters in the text and one past the last; none without a text.
      odd: sentences without words that stand in the place of a row (see `data/odd`).
      files: (name, lines or rows) of each file, in the order in which they were read.
    """

    unit: str
    words: list[list[str]] = field(default_factory=list)
    tags: list[list[str]] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    bounds: list[Bounds] = field(default_factory=list)
    odd: set[int] = field(default_factory=set)
    files: list[tuple[str, int]] = field(default_factory=list)

    def add(self, word: str, tag: str, place: int, new: bool) -> None:
        """Put a word at the end of the last sentence, or of a new one."""
        if new:
            self.add_sentence([], [], 0)
        self.words[-1].append(word)
        self.tags[-1].append(tag)
        self.places[-1].append(place)

    def add_sentence(self, words: Sequence[str], tags: Sequence[str], place: int) -> None:
        """Put a sentence, of one line or row, behind the others."""
        self.words.append(list(words))
        self.tags.append(list(tags))
        self.places.append([place] * len(words))
        self.texts.append(None)
        self.bounds.append([])

    def add_text(self, text: str, bounds: Bounds, tags: Sequence[str], place: int) -> None:
        """Put a sentence behind the others that is a text cut into words."""
        self.add_sentence([text[begin:end] for begin, end in bounds], tags, place)
        self.texts[-1], self.bounds[-1] = text, bounds

    def add_odd(self, tags: Sequence[str], place: int) -> None:
        """Put what stands for a row without words behind the others."""
        self.odd.add(len(self.words))
        self.add_sentence([PLACEHOLDER], tags, place)

    def extend(self, more: "Sentences") -> None:
        """Put the sentences of another file behind these."""
        self.odd |= {len(self.words) + i for i in more.odd}
        self.words += more.words
        self.tags += more.tags
        before = sum(count for _, count in self.files)
        self.places += [[before + place for place in places] for places in more.places]
        self.files += more.files
        self.texts += more.texts
        self.bounds += more.bounds

    def rows(self, *, labelled: bool) -> Any:
        """A `datasets.Dataset` with the columns `words`, `line` or `row`, `tags` where there are labels, and, where some
        sentence was cut from a text, `text`, `begins` and `ends`."""
        import datasets

        words, numbers = datasets.List(datasets.Value("string")), datasets.List(datasets.Value("int32"))
        columns: dict[str, tuple[Any, Any]] = {WORDS: (self.words, words), self.unit: (self.places, numbers)}
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
        return with_placeholders(rows, np.isin(np.arange(len(rows)), list(self.odd)), {})


def place(rows: Any, sentence: int, word: int = 0) -> str:
    """`line 12` or `row 3`: where a word of a sentence stands in its file."""
    return f"{_unit(rows)} {_locate(rows, '', sentence, word)[1]}"


def file_of(rows: Any, origin: str, sentence: int, word: int = 0) -> str:
    """The file in which a word of a sentence stands; `origin` where there is one file only."""
    return _locate(rows, origin, sentence, word)[0]


def _locate(rows: Any, origin: str, sentence: int, word: int) -> tuple[str, int]:
    return locate(files_of(rows), rows[sentence][_unit(rows)][word], origin)


def _unit(rows: Any) -> str:
    return "line" if "line" in rows.column_names else "row"


def glued(begins: Sequence[int], ends: Sequence[int]) -> list[bool]:
    """Which words of a text follow the word before without a space."""
    return [False, *(begin == end for begin, end in zip(begins[1:], ends[:-1], strict=True))][: len(begins)]


def cut_at(rows: Any) -> str | None:
    """How the texts of rows are cut into words (see `split_text`), or None where they are words from the start."""
    if TEXT not in rows.column_names:
        return None
    for text, begins, ends in zip(rows[TEXT], rows[BEGINS], rows[ENDS], strict=True):
        if text is not None and list(zip(begins, ends, strict=True)) != split_text(text, "spaces"):
            return "punctuation"
    return "spaces"
