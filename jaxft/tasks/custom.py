"""Custom tasks, losses and metrics: objects of the user's, which the config names as module:name."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxft.core.errors import UserError
from jaxft.core.object_reference import load_object
from jaxft.data.batching.collect import Summary
from jaxft.losses import WeightedSum
from jaxft.tasks.task import Batch, Outputs, Split, Task


def load_task(reference: str) -> type[Task]:
    """The class that `task.name` names.

    Raises:
      UserError: if it cannot be imported, or is not a complete subclass of `Task`.
    """
    task = load_object(reference, "task.name")
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise UserError(f"task.name {reference}: is not a subclass of {Task.__module__}.{Task.__name__}")
    lacking = [name for name in ("kind", "metrics") if not hasattr(task, name)]
    lacking += sorted(task.__abstractmethods__) if inspect.isabstract(task) else []
    if lacking:
        raise UserError(f"task.name {reference}: the class lacks {', '.join(lacking)}")
    return task


def cleans_texts(task: type[Task]) -> bool:
    """Whether a task's `read` cleans texts: those of jaxft do, and one of your own if its class has `cleans_texts`."""
    reader = _reader(task)
    return vars(reader).get("cleans_texts", _is_own(reader))


def file_rows(task: type[Task], rows: Any) -> np.ndarray | None:
    """`Task.file_rows`; None if a `read` of yours gave the rows and its class does not define `file_rows`, too."""
    reader = _reader(task)
    return task.file_rows(rows) if _is_own(reader) or "file_rows" in vars(reader) else None


def _reader(task: type[Task]) -> type:
    """The class whose `read` a task has."""
    return next(base for base in task.__mro__ if "read" in vars(base))


def _is_own(reader: type) -> bool:
    """Whether a class is jaxft's own."""
    return reader.__module__.startswith(f"{Task.__module__.rpartition('.')[0]}.")


@functools.cache
def customised(task: type[Task], loss: str | None, metrics: tuple[str, ...]) -> type[Task]:
    """A subclass of a task with another loss and more metrics.

    Args:
      loss: names a function (outputs, batch, train) -> (sum, weight) that replaces `Task.loss`.
      metrics: name functions (task, summary, split) -> number or None, with the arguments of `Task.scores`. Each metric has
        its function's name, and higher is better unless the function's attribute `higher_is_better` is False.

    Raises:
      UserError: if a function cannot be imported or called, or the task already has the metric.
    """
    members: dict[str, Any] = {}
    if loss is not None:
        custom_loss = _function(loss, "task.loss")

        def replaced(self: Task, outputs: Outputs, batch: Batch, train: bool) -> WeightedSum:
            return custom_loss(outputs, batch, train)

        members["loss"] = replaced
    if metrics:
        names = [reference.partition(":")[2] for reference in metrics]
        functions = {name: _function(x, "eval.metrics") for name, x in zip(names, metrics, strict=True)}
        for reference, name in zip(metrics, names, strict=True):
            if name in task.metrics or names.count(name) > 1:
                raise UserError(
                    f'eval.metrics {reference}: there is another metric "{name}"; give the function another name'
                )

        def scores(self: Task, summary: Summary, split: Split) -> dict[str, Any]:
            added = {name: _as_number(name, score(self, summary, split)) for name, score in functions.items()}
            return {**task.scores(self, summary, split), **added}

        higher = {name: bool(getattr(function, "higher_is_better", True)) for name, function in functions.items()}
        members |= {"scores": scores, "metrics": {**task.metrics, **higher}}
    return type(task.__name__, (task,), members) if members else task


def _as_number(metric: str, value: Any) -> float | None:
    if value is None or isinstance(value, (int, float)):
        return value
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"eval.metrics: {metric} returned {str(value)[:50]!r}, which is not a number") from error


def _function(reference: str, option: str) -> Callable[..., Any]:
    found = load_object(reference, option)
    if not callable(found):
        raise UserError(f"{option} {reference}: is not a function")
    return found
