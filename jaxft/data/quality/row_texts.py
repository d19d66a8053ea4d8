"""The texts of rows, read from disk whenever they are asked for."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from jaxft.data.reading.columns import column_values

SEPARATOR = "\u241f"  # between the texts of a row: a symbol that no normalisation changes


class RowTexts(Collection[str]):
    """The text of each row of a `datasets.Dataset`: that of one column, or those of several, joined by SEPARATOR.

    A list of texts counts as one text with spaces between.
    """

    def __init__(self, rows: Any, columns: Sequence[str]) -> None:
        self._rows = rows.select_columns(list(columns))
        self.columns = list(columns)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        values = (map(_text, column_values(self._rows, column)) for column in self.columns)
        return map(SEPARATOR.join, zip(*values, strict=True))

    def __contains__(self, text: object) -> bool:
        return any(text == own for own in self)

    def parts(self, row: int) -> list[str]:
        """The texts of a row, one for each column."""
        values = self._rows[row]
        return [_text(values[column]) for column in self.columns]

    def words(self, row: int) -> list[str]:
        """The words of a row whose only column holds lists of words, without empty ones."""
        (column,) = self.columns
        return [word for word in self._rows[row][column] if word]


def _text(value: Any) -> str:
    return " ".join(x for x in value if x) if isinstance(value, list) else value or ""
