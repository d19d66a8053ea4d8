"""Reads the values or rows of a data set in chunks, so that only one chunk of memory-mapped rows is in memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxft.data.reading.spool import unload

CHUNK = 2048  # rows that are read, and tokenised, at a time


def iter_rows(rows: Any) -> Iterator[dict[str, Any]]:
    """The rows of a data set as {column: value}."""
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        yield from (dict(zip(chunk, values, strict=True)) for values in zip(*chunk.values(), strict=True))
        unload()


def column_values(rows: Any, column: str) -> Iterator[Any]:
    """The values of a column."""
    selected = rows.select_columns([column])
    for start in range(0, len(rows), CHUNK):
        yield from selected[start : start + CHUNK][column]
        unload()


def arrow_chunks(rows: Any, columns: Sequence[str]) -> Iterator[Any]:
    """Columns as Arrow tables of CHUNK rows, whose schema declares the names of labels."""
    selected = rows.select_columns(list(columns))
    metadata, source = selected.features.arrow_schema.metadata, selected.with_format("arrow")
    for start in range(0, len(rows), CHUNK):
        yield source[start : start + CHUNK].replace_schema_metadata(metadata)
        unload()


def map_column(rows: Any, column: str, function: Callable[[Any], Any]) -> list[Any]:
    """`function` of each value of a column."""
    return [function(x) for x in column_values(rows, column)]
