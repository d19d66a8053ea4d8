"""How messages call rows that no file holds."""

from jaxft.data.reading.row_numbers import RowName


def rows_of(origin: str) -> RowName:
    """`origin: row 3` for the row of number 2."""
    return lambda row: f"{origin}: row {row + 1}"
