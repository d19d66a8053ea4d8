"""Several labels per text: lists of names or ids, separated text, columns of 0 and 1, or multi-hot rows."""

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError, some
from jaxft.data.reading.class_labels import label_names
from jaxft.data.reading.columns import column_values
from jaxft.data.reading.label_spelling import number_of
from jaxft.data.reading.row_numbers import RowName, row_names
from jaxft.tasks.labels import label_columns, label_ids, label_text

_BINARY = {0: False, 1: True, "false": False, "true": True}


def label_lists(
    rows: Any, data: DataConfig, origin: str, names: Sequence[str] | None = None
) -> tuple[list[list[str]], list[str]]:
    """(the labels of each row, possibly none; the labels of the multi-hot encoding or of a ClassLabel, in order).

    A row has a list, text that is split at `data.label_separator`, or a multi-hot encoding: several columns of 0 and 1, or
    lists of 0 and 1 of equal length. If the labels of multi-hot lists are not known (`names`), they are those of a
    ClassLabel, or LABEL_0, LABEL_1 and so on.

    Raises:
      UserError: if the labels of a row cannot be read; the message names the row.
    """
    columns = label_columns(data)
    if len(columns) > 1:
        return _from_columns(rows, columns, origin), columns
    column, where = columns[0], row_names(rows, origin)
    raw: list[list[Any]] = []
    for i, value in enumerate(column_values(rows, column)):
        items = _items(value, data.label_separator)
        if items is None:
            raise UserError(
                f'{where(i)} has {repr(value)[:60]} in column "{column}": must be a list of labels, or text '
                "with data.label_separator set"
            )
        raw.append(items)
    declared = label_names(rows.features[column]) or None
    hot_names = _multi_hot_names(raw, names or declared, f'{origin}: column "{column}"', ids=bool(declared))
    if hot_names:
        return [[hot_names[i] for i, x in enumerate(items) if _is_one(x)] for items in raw], hot_names
    found = []
    for i, items in enumerate(raw):
        if _is_multi_hot(items):
            raise UserError(
                f'{where(i)} has {repr(items)[:60]} in column "{column}", 0 and 1 for each label, but other rows have lists '
                "of labels: use one format for all rows"
            )
        found.append([label_text(x, declared, where, i) for x in items])
        if not all(found[-1]):
            raise UserError(f'{where(i)} has an empty label in column "{column}"')
    return found, declared or []


def multi_hot(
    lists: Sequence[Sequence[str]], names: Sequence[str], where: RowName, *, drop: bool = False
) -> tuple[np.ndarray, int]:
    """(lists of labels as int8 [N, labels] of 0 and 1, the number of labels dropped because they are not in `names`).

    Raises:
      UserError: if a label is not in `names` and `drop` is false; the message names the row.
    """
    rows = np.repeat(np.arange(len(lists)), [len(labels) for labels in lists])
    flat = [x for labels in lists for x in labels]
    ids = label_ids(flat, names, where, rows, unknown=-1 if drop else None)
    known = ids >= 0
    hot = np.zeros((len(lists), len(names)), np.int8)
    hot[rows[known], ids[known]] = 1
    return hot, int((~known).sum())


def _items(value: Any, separator: str | None) -> list[Any] | None:
    """The labels of a row as they are written; None if it has no list."""
    if isinstance(value, list):
        return value
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):  # a list, as written in csv files
        entries = text[1:-1].replace(",", " ").split()  # numpy writes spaces, json commas
        if entries and all(map(_is_binary, entries)):
            return entries
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            found = None
        if isinstance(found, list) and all(isinstance(x, str | int | float) for x in found):
            return found
    return [part.strip() for part in value.split(separator) if part.strip()] if separator else None


def _multi_hot_names(
    lists: Sequence[Sequence[Any]], names: Sequence[str] | None, where: str, *, ids: bool
) -> list[str] | None:
    """The label names of multi-hot lists; None if the lists are lists of labels.

    Lists are multi-hot if one of them has 0 or 1 twice, which no list of labels has, or if all of them have as many entries
    as there are labels and 0 and 1 are not labels themselves (`ids`, or by their names).

    Raises:
      UserError: if multi-hot lists do not have one entry per label.
    """
    if not all(all(map(_is_binary, labels)) for labels in lists):
        return None
    sizes = {len(labels) for labels in lists}
    size = max(sizes, default=0)
    right_size = len(sizes) == 1 and size > 1 and (names is None or len(names) == size)
    if not any(map(_is_multi_hot, lists)):
        are_labels = ids or (names is not None and any(map(_is_binary, names)))
        if are_labels or not right_size:
            return None
    elif not right_size:
        right = f"{len(names)} labels ({some(list(names))})" if names is not None else "one number for each label"
        raise UserError(f"{where}: has rows of 0 and 1 with {some(sorted(map(str, sizes)))} entries, not {right}")
    return list(names) if names is not None else [f"LABEL_{i}" for i in range(size)]


def _is_multi_hot(labels: Sequence[Any]) -> bool:
    """Whether a row is certainly multi-hot: it consists of 0 and 1, and one of them occurs twice."""
    return all(map(_is_binary, labels)) and len(set(map(_is_one, labels))) < len(labels)


def _is_binary(value: Any) -> bool:
    return _is_one(value) is not None


def _is_one(value: Any) -> bool | None:
    """Whether a value is 1 and not 0; None if it is neither."""
    text = str(value).lower()
    number = number_of(text)
    return _BINARY.get(text if number is None else number)


def _from_columns(rows: Any, columns: Sequence[str], origin: str) -> list[list[str]]:
    """The names of the columns that hold 1, for each row."""
    found: list[list[str]] = [[] for _ in range(len(rows))]
    where = row_names(rows, origin)
    for column in columns:
        for i, value in enumerate(column_values(rows, column)):
            text = label_text(value, None, where, i)
            if not _is_binary(text):
                raise UserError(f'{where(i)} has "{text}" in column "{column}": must be 0 or 1')
            if _is_one(text):
                found[i].append(column)
    return found
