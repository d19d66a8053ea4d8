"""Several labels a text: lists of names or ids, text that is cut, columns of 0 and 1, or rows of 0 and 1."""

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError, some
from jaxft.data.reading.columns import map_column
from jaxft.data.reading.label_spelling import number_of
from jaxft.data.reading.row_numbers import RowName, row_names
from jaxft.tasks.labels import as_text, declared_labels, label_columns, label_ids

_MARKS = {"0": False, "1": True, "false": False, "true": True}


def label_lists(
    rows: Any, data: DataConfig, origin: str, names: Sequence[str] | None = None
) -> tuple[list[list[str]], list[str]]:
    """The labels of every row, perhaps none: a list, text cut at `data.label_separator`, or what is marked by 1.

    Marks are several columns, or lists of 0 and 1 that all have a place for each label. Without names, the places of the
    latter are those of a ClassLabel, or LABEL_0, LABEL_1 and so on.

    Args:
      rows: a `datasets.Dataset`.
      data: which columns.
      origin: file, for messages.
      names: all labels, where they are known.

    Returns:
      (labels of each row, the labels that marks have places for or that a ClassLabel names, in their order).

    Raises:
      UserError: for a row whose labels are not of that kind, naming it.
    """
    columns = label_columns(data)
    if len(columns) > 1:
        return _marked(rows, columns, origin), columns
    column, where = columns[0], row_names(rows, origin)
    raw = [_items(value, data.label_separator) for value in map_column(rows, column, lambda x: x)]
    for i, (value, items) in enumerate(zip(map_column(rows, column, lambda x: x), raw, strict=True)):
        if items is None:
            raise UserError(
                f'{where(i)} has {repr(value)[:60]} in column "{column}": must be a list of labels, or text '
                "with data.label_separator set"
            )
    declared = declared_labels(rows.features[column]) or None
    places = _places([items or [] for items in raw], names or declared, f'{origin}: column "{column}"', ids=bool(declared))
    if places:
        return [[places[i] for i, x in enumerate(items or []) if _mark(x)] for items in raw], places
    found = []
    for i, items in enumerate(raw):
        if _are_marks(items or []):
            raise UserError(
                f'{where(i)} has {repr(items)[:60]} in column "{column}", 0 and 1 for each label, but other rows have lists '
                "of labels: write all rows in one way"
            )
        found.append([as_text(x, declared, where, i) for x in items or []])
        if not all(found[-1]):
            raise UserError(f'{where(i)} has an empty label in column "{column}"')
    return found, declared or []


def multi_hot(
    lists: Sequence[Sequence[str]], names: Sequence[str], where: RowName, *, drop: bool = False
) -> tuple[np.ndarray, int]:
    """Lists of labels as int8 [N, labels] of 0 and 1; and how many were left out because they are not among `names`.

    Raises:
      UserError: for such a label, naming its row, unless it is to be dropped.
    """
    rows = np.repeat(np.arange(len(lists)), [len(labels) for labels in lists])
    flat = [x for labels in lists for x in labels]
    ids = label_ids(flat, names, where, rows, unknown=-1 if drop else None)
    known = ids >= 0
    hot = np.zeros((len(lists), len(names)), np.int8)
    hot[rows[known], ids[known]] = 1
    return hot, int((~known).sum())


def _items(value: Any, separator: str | None) -> list[Any] | None:
    """The labels of a row as they stand there; None where there is no list."""
    if isinstance(value, list):
        return value
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):  # a list as csv files hold it
        marks = text[1:-1].replace(",", " ").split()  # as numpy and json write it, too
        if marks and all(map(_is_mark, marks)):
            return marks
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            found = None
        if isinstance(found, list) and all(isinstance(x, str | int | float) for x in found):
            return found
    return [part.strip() for part in value.split(separator) if part.strip()] if separator else None


def _places(lists: Sequence[Sequence[Any]], names: Sequence[str] | None, where: str, *, ids: bool) -> list[str] | None:
    """The names of the places, if lists are rows of 0 and 1 and not lists of labels.

    They are where a row has 0 or 1 twice, which no list of labels has; and where all have as many places as there are
    labels, unless 0 and 1 are labels themselves (`ids`, or by their names).

    Raises:
      UserError: for rows of 0 and 1 that are not as long as there are labels.
    """
    if not all(all(map(_is_mark, labels)) for labels in lists):
        return None
    sizes = {len(labels) for labels in lists}
    size = max(sizes, default=0)
    fits = len(sizes) == 1 and size > 1 and (names is None or len(names) == size)
    if not any(map(_are_marks, lists)):
        are_labels = ids or (names is not None and any(map(_is_mark, names)))
        if are_labels or not fits:
            return None
    elif not fits:
        right = f"{len(names)} labels ({some(list(names))})" if names is not None else "one number for each label"
        raise UserError(f"{where}: has rows of 0 and 1 with {some(sorted(map(str, sizes)))} places, not {right}")
    return list(names) if names is not None else [f"LABEL_{i}" for i in range(size)]


def _are_marks(labels: Sequence[Any]) -> bool:
    """Whether a row is one of 0 and 1 beyond doubt: one of them stands twice."""
    return all(map(_is_mark, labels)) and len(set(map(_mark, labels))) < len(labels)


def _is_mark(value: Any) -> bool:
    return number_of(str(value)) in (0, 1) or str(value).lower() in _MARKS


def _mark(value: Any) -> bool:
    """Whether a mark is 1."""
    text = str(value).lower()
    return _MARKS[text] if text in _MARKS else number_of(text) == 1


def _marked(rows: Any, columns: Sequence[str], origin: str) -> list[list[str]]:
    """The names of the columns that hold 1, row by row."""
    found: list[list[str]] = [[] for _ in range(len(rows))]
    where = row_names(rows, origin)
    for column in columns:
        for i, value in enumerate(map_column(rows, column, lambda x: x)):
            text = as_text(value, None, where, i)
            if not _is_mark(text):
                raise UserError(f'{where(i)} has "{text}" in column "{column}": must be 0 or 1')
            if _mark(text):
                found[i].append(column)
    return found
