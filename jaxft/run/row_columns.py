"""What the training data say of each row beside what its task reads: its file, and further columns."""

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
        _, values = question_column(config.data, "train", column_values(rows, "id"), column)
    else:
        numbers = row_numbers(rows) if task.kind == "fill-mask" else file_rows(type(task), rows)
        if numbers is None or joins(config, task):
            raise several_rows(task, option)
        # A file without the column has rows only if another of its columns is read.
        table = read_rows(config.data, "train", needed=[column], wanted=[config.data.text], lists=task.tags_words)
        whole = list(column_values(table, column))
        values = [whole[number - 1] for number in numbers.tolist()]
    for i, value in enumerate(values):
        if value is None or not str(value).strip():
            raise UserError(f'{task.row_names(rows, split.origin)(i)} has no value in column "{column}" ({option})')
    return values, task.rows_of_examples(split)


def file_of_examples(config: Config, task: Task, split: Split, option: str) -> tuple[list[str], np.ndarray]:
    """As `column_of_examples`, but the file of each row in place of the value of a column."""
    rows = split.rows
    if joins(config, task):
        raise several_rows(task, option)
    if task.kind == "question-answering":
        names, _ = question_column(config.data, "train", column_values(rows, "id"))
    else:
        name = task.row_names(rows, split.origin)
        names = [name(i).rpartition(": ")[0] for i in range(len(rows))]
    return names, task.rows_of_examples(split)


def joins(config: Config, task: Task) -> bool:
    """Whether documents are joined, so that an example may come from several rows."""
    return task.kind == "fill-mask" and config.data.documents == "join"


def several_rows(task: Task, option: str) -> UserError:
    """The error for examples that are made of several rows."""
    advice = "set data.documents to lines" if task.kind == "fill-mask" else "give one row for each"
    return UserError(f"{option}: an example of {task.kind} is made of several rows here, which may differ: {advice}")
