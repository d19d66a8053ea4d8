"""Limits on the number of examples: `data.max_train_examples` and `data.max_eval_examples`."""

from dataclasses import replace
from typing import Any

from jaxft.config import Config
from jaxft.tasks.task import Split, Task


def first_rows(task: type[Task], rows: Any, config: Config, split: str, *, labelled: bool = True) -> Any:
    """The first rows of a split, up to the limit; all rows if the task joins rows and the limit counts examples.

    Rows without labels are for prediction, where the limit always counts rows.
    """
    most = _most(config, split)
    return rows if most is None or (labelled and task.joins_rows(config)) else rows.select(range(min(most, len(rows))))


def first_examples(task: type[Task], data: Split, config: Config, split: str) -> Split:
    """The first examples of a split, up to the limit, if the task joins rows; otherwise the split unchanged."""
    most = _most(config, split)
    return data if most is None or not task.joins_rows(config) else replace(data, examples=data.examples.first(most))


def _most(config: Config, split: str) -> int | None:
    return config.data.max_train_examples if split == "train" else config.data.max_eval_examples
