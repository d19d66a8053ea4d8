"""Tables with a word a row, whose sentences a column tells apart (Kaggle's NER set, simpletransformers)."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxft.config import DataConfig
from jaxft.data.columns import per_row
from jaxft.data.places import Where, files_of, placed
from jaxft.data.sentences import Sentences
from jaxft.data.sources import column_names, read_rows
from jaxft.errors import UserError, some

# What the column of the sentence is called, whatever the case of letters and what stands between its words.
_KNOWN = {x + y for x in ("sentence", "sent") for y in ("", "id", "idx", "index", "no", "num", "number")}
_MOST = 0.9  # share of the rows that hold one word where a table has a word a row


def is_word_a_row(texts: Sequence[Any], tags: Sequence[Any] | None) -> bool:
    """Whether rows are single words, each with a single tag where there are tags."""
    if len(texts) < 2 or not all(isinstance(x, str | None) for x in texts):
        return False
    single = sum(len((text or "").split()) < 2 for text in texts)
    tagged = tags is None or all(not isinstance(x, str) or len(x.split()) < 2 for x in tags)
    return tagged and single >= _MOST * len(texts) and not any(isinstance(x, list) for x in tags or ())


def sentence_columns(config: DataConfig, split: str, taken: Sequence[str]) -> list[str]:
    """The columns that tell sentences apart: those of `data.sentence_column`, or the first whose name is known for it."""
    if config.sentence_column:
        return [config.sentence_column] if isinstance(config.sentence_column, str) else list(config.sentence_column)
    others = [name for name in column_names(config, split) if name not in taken]
    return [name for name in others if re.sub(r"[\W_]", "", name).lower() in _KNOWN][:1]


def read_words(config: DataConfig, split: str, label: str | None, columns: Sequence[str], where: str) -> Sentences:
    """The sentences of a table with a word a row.

    A sentence begins where its column is another than in the row before; a column that is filled in the first row of
    sentences alone is read likewise. Rows without anything are none.

    Args:
      config, split: the table.
      label: column of the tags; None reads none.
      columns: that tell sentences apart, together.
      where: the file, for messages.

    Raises:
      UserError: for a word or tag that is missing, or a sentence whose rows do not lie together.
    """
    needed = [config.text, *([label] if label else []), *columns]
    rows = read_rows(replace(config, columns=None), split, needed=needed, lists=True)
    place = placed(rows, where)
    words = [_text(x, place, number, config.text) for number, x in enumerate(per_row(rows, config.text, lambda x: x), 1)]
    tags = [_text(x, place, number, label) for number, x in enumerate(per_row(rows, label, lambda x: x), 1)] if label else []
    names = getattr(rows.features[label], "names", None) if label else None
    marks = list(zip(*(map(_mark, per_row(rows, column, lambda x: x)) for column in columns), strict=True))
    empty = ("",) * len(columns)
    whole = empty not in marks  # else only the first row of a sentence says which it is
    found, seen, before = Sentences("row", files=files_of(rows)), set(), empty
    begins = True
    for i, mark in enumerate(marks):
        number, word, tag = i + 1, words[i], tags[i] if label else ""
        if mark == empty and not word and not tag:
            before = empty
            continue
        if mark not in (empty, before) or (mark != empty and not whole):
            if whole and mark in seen:
                raise UserError(
                    f'{place(number - 1)} begins {columns[-1]} "{mark[-1]}" again; the rows of a sentence stand together, '
                    "and sentences of several documents need data.sentence_column [DOCUMENT, SENTENCE]"
                )
            seen.add(mark)
            begins = True
        before = mark
        if not word or (label and not tag):
            if config.empty_texts == "error":
                column = label if word else config.text
                advice = "" if word else " (data.empty_texts drop leaves such rows out)"
                raise UserError(f'{place(number - 1)} has no {"tag" if word else "word"} in column "{column}"{advice}')
            continue
        found.add(word, names[int(tag)] if names and tag.isdecimal() else tag, number, begins)
        begins = False
    return found


def refusal(config: DataConfig, label: str, where: str, columns: Sequence[str]) -> UserError:
    """What to say of a table with a word a row in which no column tells sentences apart."""
    return UserError(
        f'{where}: every row is one word ("{config.text}") with one tag ("{label}"), and no column is known to say which '
        f"sentence it is of; name one in data.sentence_column (columns: {some(columns, 20)}), or give rows of lists"
    )


def _text(value: Any, where: Where, number: int, column: str | None) -> str:
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
