"""One file per task; TASKS maps Hugging Face task names to task classes."""

import dataclasses

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.tasks.fill_mask import FillMask
from jaxft.tasks.multi_label import MultiLabel
from jaxft.tasks.multiple_choice import MultipleChoice
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


def task_class(config: Config) -> type[Task]:
    """The task class that a config selects.

    Raises:
      UserError: if the task does not have the metric, or does not honour an option that is set.
    """
    task, name = TASKS[config.task.name], config.task.name
    if task is TextClassification:
        task, name = PROBLEMS[config.task.problem], f"{name} with task.problem {config.task.problem}"
    for option in dataclasses.fields(config.task):
        value = getattr(config.task, option.name)
        if option.name not in ("name", *task.options) and value != option.default:
            raise UserError(
                f"task.{option.name} is {value}, but {name} has no such option; its options are "
                f"{', '.join(sorted(task.options))}"
            )
    if config.eval.metric is not None and config.eval.metric not in task.metrics:
        raise UserError(f"eval.metric is {config.eval.metric}: must be one of {', '.join(task.metrics)} for {name}")
    return task
