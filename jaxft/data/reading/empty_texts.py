"""Rows without a text in prediction: they keep their position with a placeholder text, and their predictions are null."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError

EMPTY = "empty row"  # a boolean column that marks the rows without a text
PLACEHOLDER = "."  # the text that they get
_ROW_FIELDS = ("id",)  # the fields of a prediction that identify its row


def check_not_kept(config: DataConfig) -> None:
    """Raise an error if data.empty_texts is null, which is for prediction only."""
    if config.empty_texts == "null":
        raise UserError("data.empty_texts is null, which is for jaxft.predict only: must be error or drop")


def empty_rows(rows: Any) -> np.ndarray:
    """Which rows of a `datasets.Dataset` have no text: bool [N]."""
    return np.asarray(rows[EMPTY][:], bool) if EMPTY in rows.column_names else np.zeros(len(rows), bool)


def with_placeholders(rows: Any, is_empty: np.ndarray, texts: Mapping[str, Sequence[str]]) -> Any:
    """Marks the empty rows of a `datasets.Dataset`, bool [N], and replaces columns by the values of `texts`."""
    if not is_empty.any():
        return rows
    rows = rows.add_column(EMPTY, is_empty.tolist())
    for column, values in texts.items():
        rows = rows.remove_columns(column).add_column(column, list(values))
    return rows


def nulls(predictions: Iterable[Mapping[str, Any]], is_empty: np.ndarray) -> Iterator[dict[str, Any]]:
    """The predictions; those of empty rows are null in every field except those that identify the row."""
    for row, empty in zip(predictions, is_empty, strict=True):
        yield {name: x if name in _ROW_FIELDS or not empty else None for name, x in row.items()}


def is_null(prediction: Mapping[str, Any]) -> bool:
    """Whether a prediction is that of a row without a text."""
    return all(x is None for name, x in prediction.items() if name not in _ROW_FIELDS)
