"""Further columns of the training data, beside those that its task reads: the domain and the weight of each row."""

from typing import Any

import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.formats.squad import question_column
from jaxft.data.reading.columns import column_values
from jaxft.data.reading.row_numbers import row_numbers
from jaxft.data.reading.sources import read_rows
from jaxft.tasks.custom import file_rows
from jaxft.tasks.task import Split, Task


def column_of_examples(config: Config, task: Task, split: Split, column: str, option: str) -> tuple[list[Any], np.ndarray]:
    """(the value of a column for each row of a split, the row of each example, int64 [N]).

    Args:
      config: names the files of the split in `data.train`.
      task, split: what read the rows and encoded them.
      column, option: the column, and the option that names it, for messages.

    Raises:
      UserError: if no file has the column, a row has no value, or the examples are not made of single rows.
    """
    rows = split.rows
    if task.kind == "question-answering":
        values = question_column(config.data, "train", column, column_values(rows, "id"))
    else:
        numbers = row_numbers(rows) if task.kind == "fill-mask" else file_rows(type(task), rows)
        if numbers is None or (task.kind == "fill-mask" and config.data.documents == "join"):
            raise UserError(
                f'{option}: an example of {task.kind} is made of several rows here, which have no common "{column}": give '
                f"one row for each{' (data.documents lines)' if task.kind == 'fill-mask' else ''}"
            )
        # A file without the column has rows only if another of its columns is read.
        table = read_rows(config.data, "train", needed=[column], wanted=[config.data.text], lists=task.tags_words)
        whole = list(column_values(table, column))
        values = [whole[number - 1] for number in numbers.tolist()]
    for i, value in enumerate(values):
        if value is None or not str(value).strip():
            raise UserError(f'{task.row_names(rows, split.origin)(i)} has no value in column "{column}" ({option})')
    return values, task.rows_of_examples(split)
