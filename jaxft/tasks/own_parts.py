"""Tasks, losses and metrics of the user's own, which the config names as module:name."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from jaxft.core.errors import UserError
from jaxft.core.object_reference import load_object
from jaxft.data.batching.collect import Summary
from jaxft.losses import WeightedSum
from jaxft.tasks.task import Batch, Outputs, Split, Task


def load_task(reference: str) -> type[Task]:
    """The class that `task.name` names.

    Raises:
      UserError: for what cannot be imported, or is no complete subclass of `Task`.
    """
    task = load_object(reference, "task.name")
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise UserError(f"task.name {reference}: is not a subclass of {Task.__module__}.{Task.__name__}")
    lacking = [name for name in ("kind", "metrics") if not hasattr(task, name)]
    lacking += sorted(task.__abstractmethods__) if inspect.isabstract(task) else []
    if lacking:
        raise UserError(f"task.name {reference}: the class lacks {', '.join(lacking)}")
    return task


@functools.cache
def with_own_parts(task: type[Task], loss: str | None, metrics: tuple[str, ...]) -> type[Task]:
    """The task with a loss in place of its own, and metrics beside its own.

    Args:
      task: a class.
      loss: names a function (outputs, batch, train) -> (sum, weight), as `Task.loss` is.
      metrics: name functions (task, summary, split) -> number or None, of what `Task.scores` is given. Each metric has
        its function's name, and higher is better unless the function's attribute `higher_is_better` is False.

    Raises:
      UserError: for what cannot be imported or called, or a metric that the task already has.
    """
    members: dict[str, Any] = {}
    if loss is not None:
        own_loss = _function(loss, "task.loss")

        def replaced(self: Task, outputs: Outputs, batch: Batch, train: bool) -> WeightedSum:
            return own_loss(outputs, batch, train)

        members["loss"] = replaced
    if metrics:
        functions = {reference.partition(":")[2]: _function(reference, "eval.metrics") for reference in metrics}
        _check_names(task, metrics)

        def scores(self: Task, summary: Summary, split: Split) -> dict[str, Any]:
            own = {name: score(self, summary, split) for name, score in functions.items()}
            return {**task.scores(self, summary, split), **own}

        higher = {name: bool(getattr(function, "higher_is_better", True)) for name, function in functions.items()}
        members |= {"scores": scores, "metrics": {**task.metrics, **higher}}
    return type(task.__name__, (task,), members) if members else task


def _check_names(task: type[Task], metrics: Sequence[str]) -> None:
    names = [reference.partition(":")[2] for reference in metrics]
    for reference, name in zip(metrics, names, strict=True):
        if name in task.metrics or names.count(name) > 1:
            raise UserError(f'eval.metrics {reference}: there is another metric "{name}"; give the function another name')


def _function(reference: str, option: str) -> Callable[..., Any]:
    found = load_object(reference, option)
    if not callable(found):
        raise UserError(f"{option} {reference}: is no function")
    return found
