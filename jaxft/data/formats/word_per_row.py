"""Tables with a word a row, whose sentences a column tells apart (Kaggle's NER set, simpletransformers)."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.errors import UserError, some
from jaxft.data.formats.sentences import Sentences
from jaxft.data.reading.columns import per_row
from jaxft.data.reading.row_numbers import RowName, files_of, row_names
from jaxft.data.reading.sources import column_names, read_rows

# What the column of the sentence is called, whatever the case of letters and what stands between its words.
_KNOWN = {x + y for x in ("sentence", "sent") for y in ("", "id", "idx", "index", "no", "num", "number")}
_DOCUMENTS = {x + y for x in ("document", "doc", "article", "file") for y in ("", "id", "idx", "index", "no", "num", "name")}
_MOST = 0.9  # share of the rows that hold one word where a table has a word a row


def is_word_a_row(texts: Sequence[Any], tags: Sequence[Any] | None) -> bool:
    """Whether rows are single words, each with a single tag where there are tags."""
    if len(texts) < 2 or not all(isinstance(x, str | None) for x in texts):
        return False
    single = sum(len((text or "").split()) < 2 for text in texts)
    tagged = tags is None or all(not isinstance(x, str) or len(x.split()) < 2 for x in tags)
    return tagged and single >= _MOST * len(texts) and not any(isinstance(x, list) for x in tags or ())


def sentence_columns(config: DataConfig, split: str, taken: Sequence[str]) -> list[str]:
    """The columns that tell sentences apart: those of `data.sentence_column`, or the first whose name is known for it,
    behind the one of its document, if there is one."""
    if config.sentence_column:
        return [config.sentence_column] if isinstance(config.sentence_column, str) else list(config.sentence_column)
    others = {name: re.sub(r"[\W_]", "", name).lower() for name in column_names(config, split) if name not in taken}
    sentence = [name for name, plain in others.items() if plain in _KNOWN][:1]
    document = [name for name, plain in others.items() if plain in _DOCUMENTS][:1]
    return [*document, *sentence] if sentence else []


def read_words(config: DataConfig, split: str, label: str | None, columns: Sequence[str], where: str) -> Sentences:
    """The sentences of a table with a word a row.

    A sentence begins where its file begins or one of its columns is another than in the row before; a column that is filled
    in the first rows of sentences alone is read likewise. Rows without anything are none.

    Args:
      config, split: the table.
      label: column of the tags; None reads none.
      columns: that tell sentences apart, together.
      where: the file, for messages.

    Raises:
      UserError: for a word, tag or sentence that is missing, or a sentence whose rows do not lie together.
    """
    needed = [config.text, *([label] if label else []), *columns]
    rows = read_rows(replace(config, columns=None), split, needed=needed, lists=True)
    place = row_names(rows, where)
    words = [_text(x, place, number, config.text) for number, x in enumerate(per_row(rows, config.text, lambda x: x), 1)]
    tags = [_text(x, place, number, label) for number, x in enumerate(per_row(rows, label, lambda x: x), 1)] if label else []
    names = getattr(rows.features[label], "names", None) if label else None
    cells = [[_mark(x) for x in per_row(rows, column, lambda x: x)] for column in columns]
    files = files_of(rows)
    kept = [i for i, word in enumerate(words) if word or (label and tags[i]) or any(column[i] for column in cells)]
    beginnings = _beginnings(cells, kept, files, columns, place, named=config.sentence_column is not None)
    found, begins = Sentences("row", files=files), True
    for i in kept:
        number, word, tag = i + 1, words[i], tags[i] if label else ""
        begins = begins or i in beginnings
        if not word or (label and not tag):
            if config.empty_texts == "error":
                column = label if word else config.text
                advice = "" if word else " (data.empty_texts drop leaves such rows out)"
                raise UserError(f'{place(i)} has no {"tag" if word else "word"} in column "{column}"{advice}')
            continue
        found.add(word, names[int(tag)] if names and tag.isdecimal() else tag, number, begins)
        begins = False
    return found


def _beginnings(
    cells: Sequence[Sequence[str]],
    kept: Sequence[int],
    files: Sequence[tuple[str, int]],
    columns: Sequence[str],
    place: RowName,
    *,
    named: bool,
) -> set[int]:
    """The rows that begin a sentence: where a file begins, a filled column changes, or one of first rows is filled.

    Args:
      cells: of `columns`, as text.
      kept: rows that hold anything.
      files: (name, rows) of each, where there are several.
      place: what messages call a row.
      named: whether the user chose the columns; otherwise those before the last count only where they are filled.
    """
    first_only = [_first_rows_only(column, kept) for column in cells]
    used = [c for c, first in enumerate(first_only) if named or c + 1 == len(cells) or first is False]
    for c in used:
        if first_only[c] is None:
            row = next(i for i in kept if not cells[c][i])
            raise UserError(
                f'{place(row)} has nothing in column "{columns[c]}", which says of every word, or of the first words of '
                "sentences alone, which sentence it is of"
            )
    starts = {0, *accumulate(count for _, count in files)}
    whole = not any(first_only[c] for c in used)
    found, seen, before = set(), set(), -1
    for i in kept:
        new_file = not starts.isdisjoint(range(before + 1, i + 1))
        changed = (bool(cells[c][i]) if first_only[c] else cells[c][i] != cells[c][before] for c in used)
        if new_file or any(changed):
            found.add(i)
            seen = set() if new_file else seen
            mark = tuple(cells[c][i] for c in used)
            if whole and mark in seen:
                raise UserError(
                    f'{place(i)} begins {columns[used[-1]]} "{mark[-1]}" again; the rows of a sentence stand together, '
                    "and sentences of several documents need data.sentence_column [DOCUMENT, SENTENCE]"
                )
            seen.add(mark)
        before = i
    return found


def _first_rows_only(column: Sequence[str], kept: Sequence[int]) -> bool | None:
    """Whether a column is filled in the first rows of sentences alone; None if it is neither that nor filled everywhere."""
    if all(column[i] for i in kept):
        return False
    again = any(column[i] and column[i] == column[before] for before, i in pairwise(kept))
    return None if again or not column[kept[0]] else True


def refusal(config: DataConfig, label: str, where: str, columns: Sequence[str]) -> UserError:
    """What to say of a table with a word a row in which no column tells sentences apart."""
    return UserError(
        f'{where}: every row is one word ("{config.text}") with one tag ("{label}"), and no column is known to say which '
        f"sentence it is of; name one in data.sentence_column (columns: {some(columns, 20)}), or give rows of lists"
    )


def _text(value: Any, where: RowName, number: int, column: str | None) -> str:
    if isinstance(value, list | dict):
        raise UserError(
            f'{where(number - 1)} has {repr(value)[:60]} in column "{column}": with data.sentence_column a row is a word'
        )
    return _mark(value)


def _mark(value: Any) -> str:
    """A cell as text; nothing and NaN are empty, and 1.0 is 1."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
