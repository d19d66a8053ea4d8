"""The two parts of a row of predictions: the columns of the file, and after them `gold` and the fields of the prediction."""

from collections.abc import Iterable, Mapping
from typing import Any

ROW = "row"  # the number of a row in its file, from 1
ECHOES = ("id", "words", "text")  # fields that repeat the column of their name, which is left out


def fields(row: Mapping[str, Any]) -> set[str]:
    """The names of the fields, which are `gold` and all that follow it; everything before is a column of the file."""
    names = list(row)
    return set(names[names.index("gold") :] if "gold" in names else names)


def column(row: Mapping[str, Any], name: str) -> Any:
    """The value of the column that the file calls `name`, wherever `renamed` has put it; None if it is not there."""
    own = fields(row)
    if (name in own and name not in ECHOES) or name == ROW:
        while f"input_{name}" in row and f"input_{name}" not in own:
            name = f"input_{name}"
    return row.get(name)


def renamed(columns: Mapping[str, Any], taken: Iterable[str]) -> dict[str, Any]:
    """Columns of which those with a taken name are called `input_` and their name, as often as it takes to be free."""
    found, used = {}, {*columns, *taken}
    for name, value in columns.items():
        free = name
        while free in taken or (free != name and free in used):
            free = f"input_{free}"
        used.add(free)
        found[free] = value
    return found
