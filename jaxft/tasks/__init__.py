"""One file a task; TASKS finds it by its Hugging Face name."""

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
# Text classification is one of these, as `task.problem` says.
PROBLEMS: dict[str, type[Task]] = {
    "single_label": TextClassification,
    "multi_label": MultiLabel,
    "regression": Regression,
}


def task_class(config: Config) -> type[Task]:
    """The task of a config.

    Raises:
      UserError: for a metric that the task does not have, or an option that it does not honour.
    """
    task, name = TASKS[config.task.name], config.task.name
    if task is TextClassification:
        task, name = PROBLEMS[config.task.problem], f"{name} with task.problem {config.task.problem}"
    own = config.task.options
    for option in dataclasses.fields(config.task):
        value = getattr(config.task, option.name)
        if option.name not in ("name", *own) and value != option.default:
            raise UserError(
                f"task.{option.name} is {value}, but {name} has no such option; its own are {', '.join(sorted(own))}"
            )
    if config.eval.metric is not None and config.eval.metric not in task.metrics:
        raise UserError(f"eval.metric is {config.eval.metric}: must be one of {', '.join(task.metrics)} for {name}")
    return task
