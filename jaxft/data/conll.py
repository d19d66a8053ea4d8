"""Tagged sentences: column files (CoNLL), `word:tag` lines, and rows with list columns, all as one kind of data set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.data import files
from jaxft.data.encode import per_row
from jaxft.data.odd import PLACEHOLDER, with_odd
from jaxft.data.sources import read_rows
from jaxft.errors import UserError, nearest

TABLES = (".csv", ".json", ".jsonl", ".parquet", ".arrow")  # every other file is text in columns
WORDS, TAGS = "words", "tags"
DOCUMENT = "-DOCSTART-"
INTENT = " <=> "


@dataclass
class Sentences:
    """Sentences as they are read.

    Attributes:
      words, tags: a list of text for every sentence; tags only where they are wanted.
      places: the line of each word, or the row.
      unit: `line` or `row`.
      odd: sentences without words that stand in the place of a row (see `data/odd`).
    """

    unit: str
    words: list[list[str]] = field(default_factory=list)
    tags: list[list[str]] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)
    odd: set[int] = field(default_factory=set)

    def add(self, word: str, tag: str, line: int, new: bool) -> None:
        """Put a word at the end of the last sentence, or of a new one."""
        if new:
            self.words.append([])
            self.tags.append([])
            self.places.append([])
        self.words[-1].append(word)
        self.tags[-1].append(tag)
        self.places[-1].append(line)

    def extend(self, more: "Sentences") -> None:
        """Put the sentences of another file behind these."""
        self.words += more.words
        self.tags += more.tags
        self.places += more.places


def read_sentences(config: DataConfig, split: str, label: str | None) -> Any:
    """One split as a `datasets.Dataset` of sentences.

    Args:
      config: files or hub data set. A csv, json or parquet file and a hub data set have a row for each sentence, in which
        `config.text` and `label` are lists, or text that is split at whitespace. Any other file is text: a line a word,
        columns separated by tabs or spaces, sentences by blank lines, documents by -DOCSTART-. Its first column is the
        word and its last the tag, unless `config.columns` names them. A text file whose first line holds ` <=> ` has a
        sentence a line, as `word:tag word:tag <=> intent`.
      split: train, validation or test.
      label: column of the tags; None reads none.

    Returns:
      Columns `words` and (with a label) `tags`, lists of text; and `line` or `row`, where each word stands in the file.

    Raises:
      UserError: naming the line or row of what is malformed.
    """
    import datasets

    where = files.origin(config, split)
    given = [] if config.dataset else files.files_of(config, split)
    if all(file.is_dir() or files.kind(file) in TABLES for file in given):
        found = _from_rows(config, split, label, where)
    else:
        found = Sentences("line")
        for file in given:
            found.extend(_from_text(config, file, f"data.{split}", label))
    if not found.words:
        raise UserError(f"{where}: no sentences")
    text = datasets.List(datasets.Value("string"))
    columns = {WORDS: (found.words, text), found.unit: (found.places, datasets.List(datasets.Value("int32")))}
    if label:
        columns[TAGS] = (found.tags, text)
    features = datasets.Features({name: kind for name, (_, kind) in columns.items()})
    rows = datasets.Dataset.from_dict({name: values for name, (values, _) in columns.items()}, features=features)
    return with_odd(rows, np.isin(np.arange(len(rows)), list(found.odd)), {})


def place(rows: Any, sentence: int, word: int = 0) -> str:
    """`line 12` or `row 3`: where a word of `read_sentences` stands."""
    unit = "line" if "line" in rows.column_names else "row"
    return f"{unit} {rows[sentence][unit][word]}"


def _from_text(config: DataConfig, file: Path, name: str, label: str | None) -> Sentences:
    path = str(files.existing_file(str(file), name))
    lines = [line.removesuffix("\r") for line in files.content(file).decode("utf-8-sig").split("\n")]
    filled = [line for line in lines if line.strip() and not line.startswith(DOCUMENT)]
    if filled and INTENT in filled[0]:
        return _from_pairs(lines, path)
    # A line that begins with # is a word, "#", if it has as many columns as other lines, and otherwise a comment.
    first = next((line for line in filled if not line.startswith("#")), filled[0] if filled else "")
    return _from_columns(lines, first, config, path, label)


def _from_columns(lines: list[str], first: str, config: DataConfig, path: str, label: str | None) -> Sentences:
    split = partial(str.split, sep="\t") if "\t" in first else _at_spaces
    names = config.columns or [str(i) for i in range(len(split(first)))]
    if label and first and len(names) < 2:
        raise UserError(f"{path}: the lines have one column; a word and its tag are two")
    at_word, at_tag = (_column(config, "text", config.text), _column(config, "label", label)) if config.columns else (0, -1)
    found = Sentences("line")
    begins, document = True, 0
    for number, line in enumerate([*lines, DOCUMENT], 1):
        columns = split(line)
        if not line.strip() or (line.startswith("#") and len(columns) != len(names)):
            begins = begins or not line.strip()
        elif line.startswith(DOCUMENT):
            empty = document and (not found.places or found.places[-1][-1] < document)
            if empty and config.empty_texts == "error":
                raise UserError(
                    f"{path}: line {document} begins a document without words (data.empty_texts drop leaves it out)"
                )
            begins, document = True, number
        elif len(columns) != len(names):
            columns_of = f"data.columns names {len(names)}" if config.columns else f"the first word's line has {len(names)}"
            raise UserError(f"{path}: line {number} has {len(columns)} columns, but {columns_of}")
        elif not columns[at_word] or (label and not columns[at_tag].strip()):
            raise UserError(f"{path}: line {number} has no {'tag' if columns[at_word] else 'word'}")
        else:
            found.add(columns[at_word], columns[at_tag].strip(), number, begins)
            begins = False
    return found


def _at_spaces(line: str) -> list[str]:
    """Parts between spaces; other white space is part of words."""
    return re.findall("[^ ]+", line)


def _column(config: DataConfig, option: str, name: str | None) -> int:
    columns = config.columns or []
    if name is None:
        return -1
    if name not in columns:
        raise UserError(f'data.{option} is "{name}", but data.columns names {", ".join(columns)}{nearest(name, columns)}')
    return columns.index(name)


def _from_pairs(lines: list[str], path: str) -> Sentences:
    found = Sentences("line")
    for number, line in enumerate(lines, 1):
        sentence = line.rpartition(INTENT)[0] or line
        for i, pair in enumerate(_at_spaces(sentence)):
            word, colon, tag = pair.rpartition(":")
            if not colon or not tag:
                raise UserError(f'{path}: line {number} has "{pair}", which is not of the form word:tag')
            found.add(word, tag, number, new=i == 0)  # the word may be empty: SNIPS has such
    return found


def _from_rows(config: DataConfig, split: str, label: str | None, where: str) -> Sentences:
    needed = [config.text, *([label] if label else [])]
    # data.columns names the columns of text files; a table has names of its own.
    rows = read_rows(replace(config, columns=None), split, needed=needed, lists=True)
    found = Sentences("row")
    tags = per_row(rows, label, lambda x: x) if label else [None] * len(rows)
    names = getattr(getattr(rows.features[label], "feature", None), "names", None) if label else None
    for number, (value, tag_values) in enumerate(zip(per_row(rows, config.text, lambda x: x), tags, strict=True), 1):
        words = _words(value, where, number, config)
        if not words:
            if config.empty_texts == "null":
                found.odd.add(len(found.words))
                words = [PLACEHOLDER]
            elif config.empty_texts == "error":
                raise UserError(
                    f'{where}: row {number} has no words in column "{config.text}" (data.empty_texts drop leaves such rows '
                    "out)"
                )
            else:
                continue
        if label:
            items = _items(tag_values, (str, int, float), where, number, label)
            if len(items) != len(words):
                raise UserError(f"{where}: row {number} has {len(words)} words but {len(items)} tags")
            found.tags.append([_tag_name(x, names, where, number) for x in items])
        found.words.append(words)
        found.places.append([number] * len(words))
    return found


def _words(value: Any, where: str, number: int, config: DataConfig) -> list[str]:
    """The words of a row; none of what is no list of words, where predictions are nulls then."""
    try:
        return _items(value, (str,), where, number, config.text)
    except UserError:
        if config.empty_texts == "null":
            return []
        raise


def _items(value: Any, kinds: tuple[type, ...], where: str, number: int, column: str) -> list[Any]:
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, Sequence) or not all(isinstance(x, kinds) for x in value):
        wanted = "words" if int not in kinds else "tags"
        raise UserError(
            f'{where}: row {number} has {repr(value)[:60]} in column "{column}": must be a list of {wanted}, or text'
        )
    return list(value)


def _tag_name(value: str | float, names: list[str] | None, where: str, number: int) -> str:
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    name = names[value] if names and isinstance(value, int) and 0 <= value < len(names) else str(value).strip()
    if not name:
        raise UserError(f"{where}: row {number} has an empty tag")
    return name
