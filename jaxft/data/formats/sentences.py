"""Tagged sentences, in the common form that all readers produce."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jaxft.core import distributed
from jaxft.core.errors import UserError
from jaxft.data.formats.split_text import Bounds, split_text
from jaxft.data.reading.empty_texts import PLACEHOLDER, with_placeholders
from jaxft.data.reading.row_numbers import locate, rows_per_file, with_files

WORDS, TAGS = "words", "tags"
TEXT, BEGINS, ENDS = "text", "begins", "ends"
# The same as in the file; rows have these columns only if `data.clean` changes texts.
OWN_WORDS, OWN_TEXT, OWN_BEGINS, OWN_ENDS = (f"own {name}" for name in (WORDS, TEXT, BEGINS, ENDS))


@dataclass
class Sentence:
    """The words of a line, row or block of lines.

    Attributes:
      words, tags: the tags are only used if they are read.
      numbers: the line or row number of each word, counted through all files.
      text: the text that the words were split from; None if the file contains words.
      bounds: for every word its first character in the text and one past its last; empty without a text.
      empty: whether it represents a row without words (see `data.reading.empty_texts`).
      own: the same words as in the file, with its text and their places there, if this is a cleaned sentence.
    """

    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    text: str | None = None
    bounds: Bounds = field(default_factory=list)
    empty: bool = False
    own: "Sentence | None" = None


@dataclass
class Sentences:
    """A growing list of sentences.

    Attributes:
      unit: `line` or `row`.
      files: (name, number of lines or rows) of each file, in the order in which they were read.
      items: the sentences.
    """

    unit: str
    files: list[tuple[str, int]] = field(default_factory=list)
    items: list[Sentence] = field(default_factory=list)

    def add(self, word: str, tag: str, number: int, new: bool) -> None:
        """Append a word to the last sentence, or to a new one."""
        if new:
            self.items.append(Sentence())
        self.items[-1].words.append(word)
        self.items[-1].tags.append(tag)
        self.items[-1].numbers.append(number)

    def add_sentence(self, words: Sequence[str], tags: Sequence[str], number: int, **more: Any) -> None:
        """Append a sentence from a single line or row; `more` are further attributes."""
        self.items.append(Sentence(list(words), list(tags), [number] * len(words), **more))

    def add_text(self, text: str, bounds: Bounds, tags: Sequence[str], number: int) -> None:
        """Append a sentence that is a text split into words."""
        self.add_sentence([text[begin:end] for begin, end in bounds], tags, number, text=text, bounds=bounds)

    def add_wordless(self, number: int, empty_texts: str, fault: str) -> None:
        """Append a placeholder for a row without words, leave the row out or raise `fault`, as `data.empty_texts` says."""
        if empty_texts == "error":
            raise UserError(f"{fault} (data.empty_texts drop leaves such {self.unit}s out)")
        if empty_texts == "null":
            self.add_sentence([PLACEHOLDER], [], number, empty=True)

    def extend(self, more: "Sentences") -> None:
        """Append the sentences of another file."""
        before = sum(count for _, count in self.files)
        self.items += [replace(x, numbers=[before + number for number in x.numbers]) for x in more.items]
        self.files += more.files

    def rows(self, *, labelled: bool) -> Any:
        """A `datasets.Dataset` with the columns `words`, `line` or `row`, if labelled `tags`, and, if any sentence was split
        from a text, `text`, `begins` and `ends`; of cleaned sentences also the columns OWN_WORDS to OWN_ENDS."""
        import datasets

        words, numbers = datasets.List(datasets.Value("string")), datasets.List(datasets.Value("int32"))
        columns = {WORDS: ([x.words for x in self.items], words), self.unit: ([x.numbers for x in self.items], numbers)}
        if labelled:
            columns[TAGS] = ([x.tags for x in self.items], words)
        texts = (datasets.Value("string"), numbers, numbers)
        if any(x.text is not None for x in self.items):
            columns |= _text_columns(self.items, (TEXT, BEGINS, ENDS), texts)
        if any(x.own for x in self.items):
            own = [x.own or x for x in self.items]
            columns[OWN_WORDS] = ([x.words for x in own], words)
            columns |= _text_columns(own, (OWN_TEXT, OWN_BEGINS, OWN_ENDS), texts) if TEXT in columns else {}
        info = with_files(self.files)
        info.features = datasets.Features({name: kind for name, (_, kind) in columns.items()})
        rows = datasets.Dataset.from_dict({name: values for name, (values, _) in columns.items()}, info=info)
        return with_placeholders(rows, np.array([x.empty for x in self.items]), {})


def _text_columns(items: Sequence[Sentence], names: Sequence[str], kinds: Sequence[Any]) -> dict[str, Any]:
    """(values, type) of the columns of the texts and of where the words begin and end in them."""
    begins, ends = ([[bound[side] for bound in x.bounds] for x in items] for side in (0, 1))
    return dict(zip(names, zip(([x.text for x in items], begins, ends), kinds, strict=True), strict=True))


def say_if(condition: object, line: str) -> None:
    """Print a line on standard error, on the main process."""
    if condition and distributed.is_main_process():
        print(line, file=sys.stderr)


def location(rows: Any, origin: str, sentence: int, word: int = 0) -> tuple[str, str]:
    """(file, `line 12` or `row 3`) of a sentence's word; the file is `origin` if there is only one."""
    unit = "line" if "line" in rows.column_names else "row"
    file, number = locate(rows_per_file(rows), rows[sentence][unit][word], origin)
    return file, f"{unit} {number}"


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
