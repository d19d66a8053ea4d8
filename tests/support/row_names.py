"""Names of rows in messages, for rows that come from no file."""

from jaxft.data.reading.row_numbers import RowName


def rows_of(origin: str) -> RowName:
    """`origin: row 3` for row number 2, counted from 0."""
    return lambda row: f"{origin}: row {row + 1}"
