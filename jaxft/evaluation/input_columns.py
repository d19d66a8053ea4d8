"""The columns of the rows of a file, with which predictions are written."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.formats.prediction_rows import ECHOES, ROW, renamed
from jaxft.data.formats.write_tables import named_rows
from jaxft.data.reading.columns import arrow_chunks
from jaxft.data.reading.row_numbers import select_rows
from jaxft.data.reading.sources import column_names, read_rows
from jaxft.tasks.custom import file_rows
from jaxft.tasks.task import Task


def input_columns(task: type[Task], rows: Any, config: Config, split: str) -> Iterator[tuple[int | None, Mapping[str, Any]]]:
    """Yield (its number in the file from 1, all columns of the file) for each row.

    If rows are made of several of the file, they have no number, and only the columns that the task reads are given.

    Args:
      task: whose `read` gave the rows.
      rows: a `datasets.Dataset`.
      config, split: where they were read from; rows that were set aside for validation come from the training data.
    """
    numbers = file_rows(task, rows)
    if split == "validation" and config.data.validation_share:
        split = "train"
    whole = None
    if numbers is not None:
        names = column_names(config.data, split)
        try:
            whole = read_rows(config.data, split, needed=names, lists=task.tags_words)
        except UserError as error:
            print(f"columns that are not read for the task are left out: {error}", file=sys.stderr)
    if numbers is None or whole is None:
        for table in task.file_tables(rows, config):
            yield from ((None, row) for row in named_rows(table))
        return
    selected = select_rows(whole, numbers - 1)
    chunks = (row for table in arrow_chunks(selected, selected.column_names) for row in named_rows(table))
    yield from zip(numbers.tolist(), chunks, strict=True)


def merged(columns: Mapping[str, Any], fields: Mapping[str, Any], number: int | None = None) -> dict[str, Any]:
    """`row`, the number of a row, if there is one, its columns, and then the fields of its prediction.

    Columns with the name of a field become `input_...`; `data.formats.prediction_rows` finds them.
    """
    first = {} if number is None else {ROW: number}
    kept = {name: x for name, x in columns.items() if name not in fields or name not in ECHOES}
    return {**first, **renamed(kept, {*first, *fields}), **fields}
