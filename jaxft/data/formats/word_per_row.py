"""Reads tables with one word per row and a column that identifies sentences (Kaggle's NER set, simpletransformers)."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.formats.sentences import Sentences
from jaxft.data.reading.class_labels import label_names
from jaxft.data.reading.columns import column_values
from jaxft.data.reading.row_numbers import RowName, row_names, rows_per_file
from jaxft.data.reading.sources import column_names, read_rows

# Names of the sentence's and the document's column, in lower case and without punctuation.
_KNOWN = {x + y for x in ("sentence", "sent") for y in ("", "id", "idx", "index", "no", "num", "number")}
_DOCUMENTS = {x + y for x in ("document", "doc", "article", "file") for y in ("", "id", "idx", "index", "no", "num", "name")}
_MOST = 0.9  # share of rows with one word from which on a table counts as one word per row


def is_word_per_row(texts: Sequence[Any], tags: Sequence[Any] | None) -> bool:
    """Whether rows are single words, each with a single tag where there are tags."""
    if len(texts) < 2 or not all(isinstance(x, str | None) for x in texts):
        return False
    single = sum(len((text or "").split()) < 2 for text in texts)
    tagged = tags is None or all(not isinstance(x, str) or len(x.split()) < 2 for x in tags)
    return tagged and single >= _MOST * len(texts) and not any(isinstance(x, list) for x in tags or ())


def sentence_columns(config: DataConfig, split: str, taken: Sequence[str]) -> list[str]:
    """The columns that identify sentences: those of `data.sentence_column`, or the first with a known name, preceded by the
    document's column if there is one."""
    if config.sentence_column:
        return [config.sentence_column] if isinstance(config.sentence_column, str) else list(config.sentence_column)
    others = {name: re.sub(r"[\W_]", "", name).lower() for name in column_names(config, split) if name not in taken}
    sentence = [name for name, plain in others.items() if plain in _KNOWN][:1]
    document = [name for name, plain in others.items() if plain in _DOCUMENTS][:1]
    return [*document, *sentence] if sentence else []


def read_word_rows(config: DataConfig, split: str, label: str | None, columns: Sequence[str], where: str) -> Sentences:
    """Reads the sentences of a table with one word per row, without tags if `label`, their column, is None.

    A sentence begins where its file begins or one of `columns` changes, which together identify a sentence; if a column is
    filled only in the first row of each sentence, a sentence begins where it is filled. Empty rows are ignored.

    Raises:
      UserError: for a missing word, tag or sentence, or a sentence whose rows are not contiguous.
    """
    needed = [config.text, *([label] if label else []), *columns]
    rows = read_rows(replace(config, columns=None), split, needed=needed, lists=True)
    where_row, files = row_names(rows, where), rows_per_file(rows)
    words = [_text(x, where_row, i, config.text) for i, x in enumerate(column_values(rows, config.text))]
    tags = [_text(x, where_row, i, label) for i, x in enumerate(column_values(rows, label))] if label else []
    names = label_names(rows.features[label]) if label else None
    cells = {column: [_cell_text(x) for x in column_values(rows, column)] for column in columns}
    filled = [i for i, word in enumerate(words) if word or (label and tags[i]) or any(x[i] for x in cells.values())]
    starts = _beginnings(cells, filled, files, where_row, named=config.sentence_column is not None)
    sentences, new_sentence = Sentences("row", files=files), True
    for i in filled:
        word, tag = words[i], tags[i] if label else ""
        new_sentence = new_sentence or i in starts
        if not word or (label and not tag):
            if config.empty_texts == "error":
                column = label if word else config.text
                advice = "" if word else " (data.empty_texts drop leaves such rows out)"
                raise UserError(f'{where_row(i)} has no {"tag" if word else "word"} in column "{column}"{advice}')
            continue
        sentences.add(word, names[int(tag)] if names and tag.isdecimal() else tag, i + 1, new_sentence)
        new_sentence = False
    return sentences


def _beginnings(
    cells: Mapping[str, list[str]], filled: list[int], files: list[tuple[str, int]], where_row: RowName, *, named: bool
) -> set[int]:
    """The rows that begin a sentence: a file begins, a column changes, or a column for first rows only is filled.

    `cells` are the values, as text, of the columns that identify sentences, and `filled` the rows that are not empty. Unless
    the user chose the columns (`named`), those before the last are used only if all their rows are filled.
    """
    first_only = {name: _first_rows_only(column, filled) for name, column in cells.items()}
    used = [name for name in cells if named or name == [*cells][-1] or first_only[name] is False]
    for name in used:
        if first_only[name] is None:
            row = next(i for i in filled if not cells[name][i])
            raise UserError(
                f'{where_row(row)} has nothing in column "{name}", which must name the sentence of every word, or only of '
                "the first word of each sentence"
            )
    starts = {0, *accumulate(count for _, count in files)}
    all_filled = not any(first_only[name] for name in used)
    begins, seen, before = set(), set(), -1
    for i in filled:
        new_file = not starts.isdisjoint(range(before + 1, i + 1))
        changed = (cells[x][i] != "" if first_only[x] else cells[x][i] != cells[x][before] for x in used)
        if new_file or any(changed):
            begins.add(i)
            seen = set() if new_file else seen
            key = tuple(cells[name][i] for name in used)
            if all_filled and key in seen:
                raise UserError(
                    f'{where_row(i)} begins {used[-1]} "{key[-1]}" again; the rows of a sentence must be together, '
                    "and sentences of several documents need data.sentence_column [DOCUMENT, SENTENCE]"
                )
            seen.add(key)
        before = i
    return begins


def _first_rows_only(column: Sequence[str], filled: Sequence[int]) -> bool | None:
    """Whether a column is filled only in the first row of each sentence; None if neither so nor filled in all rows."""
    if all(column[i] for i in filled):
        return False
    again = any(column[i] and column[i] == column[before] for before, i in pairwise(filled))
    return None if again or not column[filled[0]] else True


def _text(value: Any, where: RowName, row: int, column: str) -> str:
    if isinstance(value, list | dict):
        raise UserError(
            f'{where(row)} has {repr(value)[:60]} in column "{column}": with data.sentence_column a row is a word'
        )
    return _cell_text(value)


def _cell_text(value: Any) -> str:
    """A cell as text; None and NaN are empty, and 1.0 is 1."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
