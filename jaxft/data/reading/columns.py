"""Reads a column of a data set in chunks."""

from collections.abc import Callable, Iterator
from typing import Any

from jaxft.data.reading.spool import unload

CHUNK = 2048  # rows that are read, and tokenised, at a time


def column_values(rows: Any, column: str) -> Iterator[Any]:
    """The values of a column, read in chunks; only one chunk of memory-mapped rows is in memory at a time."""
    selected = rows.select_columns([column])
    for start in range(0, len(rows), CHUNK):
        yield from selected[start : start + CHUNK][column]
        unload()


def map_column(rows: Any, column: str, function: Callable[[Any], Any]) -> list[Any]:
    """`function` of each value of a column, read in chunks."""
    return [function(x) for x in column_values(rows, column)]
