"""One file per task; TASKS maps Hugging Face task names to task classes."""

import dataclasses

from jaxft.config import Config, TaskConfig
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


def named_task(config: TaskConfig) -> type[Task]:
    """The class behind `task.name` and `task.problem`.

    Raises:
      UserError: for one of the user's own that cannot be imported or is no `Task`.
    """
    if is_reference(config.name):
        return load_task(config.name)
    return PROBLEMS[config.problem] if config.name == TextClassification.kind else TASKS[config.name]


def task_class(config: Config) -> type[Task]:
    """The task class that a config selects.

    Raises:
      UserError: if the task does not have the metric, or does not honour an option that is set.
    """
    own, name = config.task, config.task.name
    task = with_own_parts(named_task(own), own.loss, tuple(config.eval.metrics))
    if name == TextClassification.kind:
        name = f"{name} with task.problem {own.problem}"
    for option in dataclasses.fields(own):
        value = getattr(own, option.name)
        if option.name not in ("name", "loss", *task.options) and value != option.default:
            raise UserError(
                f"task.{option.name} is {value}, but {name} has no such option; its own are "
                f"{', '.join(sorted(task.options))}"
            )
    of_loss = {"task.class_weights": own.class_weights, "task.focal_gamma": own.focal_gamma}
    for option, value in {**of_loss, "train.label_smoothing": config.train.label_smoothing}.items():
        if own.loss and value:
            raise UserError(f"{option} is {value}, but it belongs to the loss that task.loss {own.loss} replaces")
    if config.eval.metric is not None and config.eval.metric not in task.metrics:
        raise UserError(f"eval.metric is {config.eval.metric}: must be one of {', '.join(task.metrics)} for {name}")
    return task
