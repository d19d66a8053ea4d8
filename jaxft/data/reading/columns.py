"""A column of a data set, read some rows at a time."""

from collections.abc import Callable, Iterator
from typing import Any

from jaxft.data.reading.spool import unload

CHUNK = 2048  # rows that are read, and tokenised, at a time


def each(rows: Any, column: str) -> Iterator[Any]:
    """The values of a column, read in chunks, of which one is in memory where the rows are mapped."""
    alone = rows.select_columns([column])
    for start in range(0, len(rows), CHUNK):
        yield from alone[start : start + CHUNK][column]
        unload()


def per_row(rows: Any, column: str, function: Callable[[Any], Any]) -> list[Any]:
    """`function` over a column, read in chunks."""
    return [function(x) for x in each(rows, column)]
