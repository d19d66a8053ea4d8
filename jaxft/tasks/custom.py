"""Custom tasks, losses and metrics: objects of the user's, which the config names as module:name."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.core.errors import UserError, one_line
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


def customised(task: type[Task], loss: str | None, metrics: Sequence[str], chosen: str | None = None) -> type[Task]:
    """A subclass of a task with another loss and more metrics.

    Args:
      loss: names a pure function (outputs, batch, train) -> (sum, weight) that replaces `Task.loss`.
      metrics: name functions (predictions, references) -> number, None, or a dict of them, of what `Task.predictions`
        returns, or (task, summary, split) -> the same, with the arguments of `Task.scores`. Each metric has its function's
        name, and those of a dict with several entries have NAME_KEY; higher is better unless the function's attribute
        `higher_is_better` is False.
      chosen: `eval.metric`, which may be a NAME_KEY.

    Raises:
      UserError: if a function cannot be imported or called, or the task already has the metric.
    """
    names = [reference.partition(":")[2] for reference in metrics]
    functions = [_function(reference, "eval.metrics") for reference in metrics]
    for reference, name in zip(metrics, names, strict=True):
        if name in task.metrics or names.count(name) > 1:
            raise UserError(f'eval.metrics {reference}: there is another metric "{name}"; give the function another name')
    own_loss = None if loss is None else (loss, _function(loss, "task.loss"))
    return _subclass(task, own_loss, tuple(zip(names, functions, strict=True)), chosen)


@functools.cache
def _subclass(
    task: type[Task],
    loss: tuple[str, Callable[..., Any]] | None,
    metrics: tuple[tuple[str, Callable[..., Any]], ...],
    chosen: str | None,
) -> type[Task]:
    members: dict[str, Any] = {}
    if loss is not None:

        def replaced(self: Task, outputs: Outputs, batch: Batch, train: bool) -> WeightedSum:
            return _weighted_sum(*loss, outputs, batch, train)

        members |= {"loss": replaced, "needs_all_rows": True, "has_own_loss": True}  # it may compare examples
    if metrics:
        plain = {name: call for name, function in metrics if (call := of_predictions(function)) is not None}

        def scores(self: Task, summary: Summary, split: Split) -> dict[str, Any]:
            found = task.scores(self, summary, split)
            both = self.predictions(summary, split) if plain else ()
            for name, function in metrics:
                new = _as_numbers(name, plain[name](*both) if name in plain else function(self, summary, split))
                if twice := sorted(found.keys() & new.keys()):
                    raise UserError(
                        f'eval.metrics: {name} returned a score "{twice[0]}", which there is already; give the function or '
                        "the key another name"
                    )
                found |= new
            return found

        higher = {name: bool(getattr(function, "higher_is_better", True)) for name, function in metrics}
        of_dict = max((name for name in higher if chosen and chosen.startswith(f"{name}_")), key=len, default=None)
        entry = {chosen: higher[of_dict]} if chosen and of_dict else {}
        members |= {"scores": scores, "metrics": {**entry, **task.metrics, **higher}}
        members |= {"keeps_predictions": True} if plain else {}
    return type(task.__name__, (task,), members) if members else task


def of_predictions(function: Callable[..., Any]) -> Callable[[Any, Any], Any] | None:
    """A function of (predictions, references) that calls a metric of these two; None if it takes (task, summary, split).

    Functions of scikit-learn have the references first, under the name y_true, and those of `evaluate` only names.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return function
    for names in (("predictions", "references"), ("y_pred", "y_true")):
        if parameters.keys() >= set(names):
            return lambda *both: function(**dict(zip(names, both, strict=True)))
    positional = [x for x in parameters.values() if x.kind in (x.POSITIONAL_ONLY, x.POSITIONAL_OR_KEYWORD)]
    return None if sum(x.default is x.empty for x in positional) > 2 else function


def _weighted_sum(reference: str, function: Callable[..., Any], outputs: Outputs, batch: Batch, train: bool) -> WeightedSum:
    """What the user's loss returns.

    Raises:
      UserError: if it is impure, or does not return two scalars.
    """
    try:
        found = function(outputs, batch, train)
    except jax.errors.JAXTypeError as error:
        raise UserError(
            f"task.loss {reference}: must be a pure function of arrays, which are not known yet when jax compiles it: use "
            f"jax.numpy in place of numpy, float() and if ({one_line(error)[:160]})"
        ) from error
    shapes = [jnp.shape(x) for x in found] if isinstance(found, (tuple, list)) else [jnp.shape(found)]
    if shapes != [(), ()]:
        shown = ", ".join(str(list(shape)) for shape in shapes)
        raise UserError(f"task.loss {reference}: returned {shown}: must return (sum, weight), two scalars of shape []")
    return jnp.asarray(found[0], jnp.float32), jnp.asarray(found[1], jnp.float32)


def _as_numbers(metric: str, found: Any) -> dict[str, float | None]:
    """The scores of a metric by name: one number, or those of a dict."""
    if isinstance(found, Mapping) and len(found) != 1:
        return {f"{metric}_{key}": _as_number(f"{metric} {key}", value) for key, value in found.items()}
    return {metric: _as_number(metric, next(iter(found.values())) if isinstance(found, Mapping) else found)}


def _as_number(metric: str, value: Any) -> float | None:
    """A number of a metric; None, an unknown score, also for NaN."""
    if value is None or isinstance(value, int):
        return value
    try:
        if isinstance(value, str):
            raise TypeError
        number = float(value)
        return None if math.isnan(number) else number
    except (TypeError, ValueError) as error:
        raise UserError(f"eval.metrics: {metric} returned {str(value)[:50]!r}, which is not a number") from error


def _function(reference: str, option: str) -> Callable[..., Any]:
    found = load_object(reference, option)
    if not callable(found):
        raise UserError(f"{option} {reference}: is not a function")
    return found
