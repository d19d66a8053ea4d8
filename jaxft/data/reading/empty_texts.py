"""Rows without a text that prediction keeps: they stand in their place with another text, and their prediction is nulls."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError

ODD = "odd row"  # a column of the rows that says which these are
PLACEHOLDER = "."  # their text
_KEPT = ("id",)  # of a prediction: what says which row it is of


def refuse(config: DataConfig) -> None:
    """Training and evaluation have no use for rows without a text.

    Raises:
      UserError: where they would be kept.
    """
    if config.empty_texts == "null":
        raise UserError("data.empty_texts is null, which is for jaxft.predict alone: must be error or drop")


def empty_rows(rows: Any) -> np.ndarray:
    """Which rows of a `datasets.Dataset` are odd: bool [N]."""
    return np.asarray(rows[ODD][:], bool) if ODD in rows.column_names else np.zeros(len(rows), bool)


def with_placeholders(rows: Any, odd: np.ndarray, texts: Mapping[str, Sequence[str]]) -> Any:
    """The rows with other texts in some columns, and a note of which are odd."""
    if not odd.any():
        return rows
    rows = rows.add_column(ODD, odd.tolist())
    for column, values in texts.items():
        rows = rows.remove_columns(column).add_column(column, list(values))
    return rows


def nulls(predictions: Iterable[Mapping[str, Any]], odd: np.ndarray) -> Iterator[dict[str, Any]]:
    """The predictions, of odd rows null in every field but those that say which row it is."""
    for row, is_odd in zip(predictions, odd, strict=True):
        yield {name: x if name in _KEPT or not is_odd else None for name, x in row.items()}


def is_null(prediction: Mapping[str, Any]) -> bool:
    """Whether a prediction is one of an odd row."""
    return all(x is None for name, x in prediction.items() if name not in _KEPT)
