"""The numbers of rows in the files that they were read from, also after other rows were left out."""

import json
from collections.abc import Callable, Sequence
from typing import Any

RowName = Callable[[int], str]  # index of a row in a data set, from 0 -> its name in messages, `a.csv: row 3`


def with_files(files: Sequence[tuple[str, int]]) -> Any:
    """A `DatasetInfo` that records the files of concatenated rows: (name, number of rows) of each."""
    import datasets

    return datasets.DatasetInfo(description=json.dumps(files) if len(files) > 1 else "")


def select_rows(rows: Any, chosen: Any) -> Any:
    """The rows with the indices `chosen`, int [N], of a `datasets.Dataset`; `select` would forget the numbers of contiguous
    rows."""
    import numpy as np  # not imported with the module, or `--help` would take longer

    return rows._select_with_indices_mapping(np.asarray(chosen, np.int64), keep_in_memory=True)


def row_numbers(rows: Any) -> Any:
    """The number of each row, from 1, counted through all files that the rows were read from: a numpy array, int [N]."""
    import numpy as np

    chosen = rows._indices
    return 1 + (np.arange(len(rows)) if chosen is None else chosen.column(0).to_numpy())


def rows_per_file(rows: Any) -> list[tuple[str, int]]:
    """(file, number of rows) as `with_files` recorded them; empty if all rows are from one file."""
    note = str(rows.info.description)
    return [(file, count) for file, count in json.loads(note)] if note.startswith('[["') else []


def locate(files: Sequence[tuple[str, int]], number: int, origin: str) -> tuple[str, int]:
    """(file, row number in that file) of a row number, from 1, that counts through all files."""
    for file, count in files:
        if number <= count:
            return file, number
        number -= count
    return origin, number


def row_names(rows: Any, origin: str) -> RowName:
    """Names rows of a data set in messages, by their file (`origin` if there is one) and their number in it."""
    chosen, files = rows._indices, rows_per_file(rows)

    def where(row: int) -> str:
        file, number = locate(files, 1 + (row if chosen is None else chosen.column(0)[row].as_py()), origin)
        return f"{file}: row {number}"

    return where
