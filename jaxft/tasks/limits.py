"""The first rows or examples of a split, up to `data.max_train_examples` or `data.max_eval_examples`."""

from dataclasses import replace
from typing import Any

from jaxft.config import Config
from jaxft.tasks.task import Split, Task


def first_rows(task: type[Task], rows: Any, config: Config, split: str, *, labelled: bool = True) -> Any:
    """The first rows of a split, up to its limit; all rows if the task joins rows and the limit counts examples.

    Rows without labels are for prediction, where the limit always counts rows.
    """
    limit = _limit(config, split)
    return rows if limit is None or (labelled and task.joins_rows(config)) else rows.select(range(min(limit, len(rows))))


def first_examples(task: type[Task], data: Split, config: Config, split: str) -> Split:
    """The first examples of a split, up to its limit, if the task joins rows; otherwise the split unchanged."""
    limit = _limit(config, split)
    return data if limit is None or not task.joins_rows(config) else replace(data, examples=data.examples.first(limit))


def _limit(config: Config, split: str) -> int | None:
    return config.data.max_train_examples if split == "train" else config.data.max_eval_examples
