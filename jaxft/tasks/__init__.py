"""One file per task; TASKS maps Hugging Face task names to task classes."""

import dataclasses

from jaxft.config import Config, TaskConfig
from jaxft.config.task import options_for
from jaxft.core.errors import UserError
from jaxft.core.object_reference import is_reference
from jaxft.tasks.fill_mask import FillMask
from jaxft.tasks.multi_label import MultiLabel
from jaxft.tasks.multiple_choice import MultipleChoice
from jaxft.tasks.own_parts import load_task, with_own_parts
from jaxft.tasks.pretraining import Pretraining
from jaxft.tasks.question_answering import QuestionAnswering
from jaxft.tasks.regression import Regression
from jaxft.tasks.task import Task
from jaxft.tasks.text_classification import TextClassification
from jaxft.tasks.token_classification import TokenClassification

_ALL: tuple[type[Task], ...] = (
    FillMask,
    MultipleChoice,
    Pretraining,
    QuestionAnswering,
    TextClassification,
    TokenClassification,
)
TASKS = {task.kind: task for task in _ALL}
# `task.problem` selects the class for text classification.
PROBLEMS: dict[str, type[Task]] = {
    "single_label": TextClassification,
    "multi_label": MultiLabel,
    "regression": Regression,
}

# The names by which the options in `TaskConfig` say which tasks they are for.
_NAMES: dict[type, set[str]] = {task: {task.kind} for task in _ALL} | {
    task: {TextClassification.kind, problem} for problem, task in PROBLEMS.items()
}


def named_task(config: TaskConfig) -> type[Task]:
    """The class behind `task.name` and `task.problem`.

    Raises:
      UserError: for one of the user's own that cannot be imported or is no `Task`.
    """
    if is_reference(config.name):
        return load_task(config.name)
    return PROBLEMS[config.problem] if config.name == TextClassification.kind else TASKS[config.name]


def task_options(config: TaskConfig) -> list[str]:
    """Names of the fields of `TaskConfig` that the task of a config honours.

    A task of the user's own honours those of jaxft's task that it is derived from, and those in its `options`.
    """
    if not is_reference(config.name):
        return config.options
    task = load_task(config.name)
    names = {name for base in task.__mro__ for name in _NAMES.get(base, ())}
    return sorted({*options_for(names), *task.options} - {"problem"})


def task_class(config: Config) -> type[Task]:
    """The task class that a config selects.

    Raises:
      UserError: if the task does not have the metric, or does not honour an option that is set.
    """
    own, name = config.task, config.task.name
    task = with_own_parts(named_task(own), own.loss, tuple(config.eval.metrics))
    if name == TextClassification.kind:
        name = f"{name} with task.problem {own.problem}"
    honoured = task_options(own)
    for option in dataclasses.fields(own):
        value = getattr(own, option.name)
        if option.name not in ("name", "loss", *honoured) and value != option.default:
            raise UserError(
                f"task.{option.name} is {value}, but {name} has no such option; its options are "
                f"{', '.join(sorted(honoured))}"
            )
    of_loss = {"task.class_weights": own.class_weights, "task.focal_gamma": own.focal_gamma}
    for option, value in {**of_loss, "train.label_smoothing": config.train.label_smoothing}.items():
        if own.loss and value:
            raise UserError(f"{option} is {value}, but it belongs to the loss that task.loss {own.loss} replaces")
    if config.eval.metric is not None and config.eval.metric not in task.metrics:
        raise UserError(f"eval.metric is {config.eval.metric}: must be one of {', '.join(task.metrics)} for {name}")
    return task
