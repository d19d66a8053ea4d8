"""One file per task; TASKS maps Hugging Face task names to task classes."""

import dataclasses

from jaxft.config import Config, TaskConfig
from jaxft.config.of_tasks import every_task
from jaxft.config.task import options_for
from jaxft.core.errors import UserError, nearest
from jaxft.core.object_reference import is_reference
from jaxft.tasks.custom import cleans_texts, customised, load_task
from jaxft.tasks.masked_lm import MaskedLM
from jaxft.tasks.multi_label import MultiLabel
from jaxft.tasks.multiple_choice import MultipleChoice
from jaxft.tasks.pretraining import Pretraining
from jaxft.tasks.question_answering import QuestionAnswering
from jaxft.tasks.regression import Regression
from jaxft.tasks.task import Task
from jaxft.tasks.text_classification import TextClassification
from jaxft.tasks.token_classification import TokenClassification

TASKS: dict[str, type[Task]] = {
    task.kind: task
    for task in (MaskedLM, MultipleChoice, Pretraining, QuestionAnswering, TextClassification, TokenClassification)
}
# `task.problem` selects the class for text classification.
PROBLEMS = {task.problem: task for task in (TextClassification, MultiLabel, Regression)}
# The names by which the options in `TaskConfig` name a task.
_NAMES: dict[type, set[str]] = {task: {task.kind} for task in TASKS.values()} | {
    task: {task.kind, task.problem} for task in PROBLEMS.values()
}


def named_task(config: TaskConfig) -> type[Task]:
    """The class behind `task.name` and `task.problem`.

    Raises:
      UserError: if it is a custom task that cannot be imported or is not a `Task`.
    """
    if is_reference(config.name):
        return load_task(config.name)
    return PROBLEMS[config.problem] if config.name == TextClassification.kind else TASKS[config.name]


def task_options(config: TaskConfig) -> list[str]:
    """Names of the fields of `TaskConfig` that the task of a config honours.

    A custom task honours those of jaxft's task from which it is derived, and those in its `options`.
    """
    if not is_reference(config.name):
        return config.options
    task = load_task(config.name)
    names = {name for base in task.__mro__ for name in _NAMES.get(base, ())}
    return sorted({*options_for(names), *task.options} - {"problem"})


def task_class(config: Config) -> type[Task]:
    """The task class that a config selects.

    Raises:
      UserError: if the task does not have the metric, or does not honour an option that is set; or if there are several
        tasks, each of which has a config of its own (`config.of_tasks`).
    """
    if config.tasks:
        names = ", ".join(x.name for x in config.tasks)
        raise UserError(f"the config has several tasks ({names}), but this is for a single one: leave tasks out")
    options, name = config.task, _described(config.task)
    task = customised(named_task(options), options.loss, config.eval.metrics, config.eval.metric)
    honoured = task_options(options)
    for option in dataclasses.fields(options):
        value = getattr(options, option.name)
        if option.name not in ("name", "loss", *honoured) and value != option.default:
            raise UserError(
                f"task.{option.name} is {value}, but {name} has no such option; its options are "
                f"{', '.join(sorted(honoured))}"
            )
    of_loss = {"task.class_weights": options.class_weights, "task.focal_gamma": options.focal_gamma}
    for option, value in {**of_loss, "train.label_smoothing": config.train.label_smoothing}.items():
        if options.loss and value:
            raise UserError(f"{option} is {value}, but it belongs to the loss that task.loss {options.loss} replaces")
    if config.data.clean.edits and not cleans_texts(task):
        raise UserError(
            f"data.clean changes texts, but {name} has a read of its own that does not say it cleans them: clean them there "
            "(jaxft.data.cleaning.columns.clean_columns) and set cleans_texts to True in its class"
        )
    if config.eval.metric is not None and config.eval.metric not in task.metrics:
        near = nearest(config.eval.metric, task.metrics)
        raise UserError(f"eval.metric is {config.eval.metric}: must be one of {', '.join(task.metrics)} for {name}{near}")
    return task


def check_smoothing(config: Config) -> None:
    """Check that `train.label_smoothing` is for the task of a config, or for one of several; the others ignore it.

    Raises:
      UserError: if no task has labels to smooth.
    """
    smoothing, tasks = config.train.label_smoothing, every_task(config).values()
    if smoothing and not any(named_task(own.task).smooths_labels for own in tasks):
        lacking = "none of the tasks has any" if config.tasks else f"{_described(config.task)} has none"
        raise UserError(f"train.label_smoothing is {smoothing}, but {lacking}: leave it at 0")


def _described(config: TaskConfig) -> str:
    """The name of a task in messages."""
    if config.name == TextClassification.kind:
        return f"{config.name} with task.problem {config.problem}"
    return config.name
