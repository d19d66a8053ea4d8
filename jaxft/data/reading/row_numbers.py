"""Where rows stand in the files that they were read from, whichever of them were left out since."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

RowName = Callable[[int], str]  # the number of a row of a data set, from 0 -> `a.csv: row 3`


def with_files(files: Sequence[tuple[str, int]]) -> Any:
    """The `DatasetInfo` of rows that were read from files one after the other: (name, rows) of each."""
    import datasets

    return datasets.DatasetInfo(description=json.dumps(files) if len(files) > 1 else "")


def select_rows(rows: Any, chosen: Any) -> Any:
    """Some rows of a `datasets.Dataset`, which keep their numbers: `select` forgets those of rows that follow each other."""
    return rows._select_with_indices_mapping(np.asarray(chosen, np.int64), keep_in_memory=True)


def row_numbers(rows: Any) -> np.ndarray:
    """The numbers from 1 that rows have in what they were read from, all files together."""
    chosen = rows._indices
    return 1 + (np.arange(len(rows)) if chosen is None else chosen.column(0).to_numpy())


def files_of(rows: Any) -> list[tuple[str, int]]:
    """What `with_files` noted of a data set: nothing where all rows are of one file."""
    note = str(rows.info.description)
    return [(file, count) for file, count in json.loads(note)] if note.startswith('[["') else []


def locate(files: Sequence[tuple[str, int]], number: int, origin: str) -> tuple[str, int]:
    """The file of a number from 1 that counts through all files, and its number in that file."""
    for file, count in files:
        if number <= count:
            return file, number
        number -= count
    return origin, number


def row_names(rows: Any, origin: str) -> RowName:
    """How messages call the rows of a data set from `origin`: by their file and their number in it."""
    chosen, files = rows._indices, files_of(rows)

    def where(row: int) -> str:
        file, number = locate(files, 1 + (row if chosen is None else chosen.column(0)[row].as_py()), origin)
        return f"{file}: row {number}"

    return where
