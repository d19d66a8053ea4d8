"""Training data without labels, from which a student learns by its teacher alone (`distill.unlabelled`)."""

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.model_source import resolve
from jaxft.models.peft.read_adapter import read_hf_config
from jaxft.run.trained_models import teacher_paths
from jaxft.tasks.task import Task


def is_labelled(config: Config, split: str) -> bool:
    """Whether the labels of a split are read."""
    return not (config.distill.unlabelled and split == "train")


def check_unlabelled(config: Config, kind: type[Task]) -> None:
    """Refuse options that need the labels of the training data.

    Raises:
      UserError: naming the option.
    """
    if not config.distill.teacher:
        raise UserError("distill.unlabelled needs distill.teacher: without labels there is nothing else to learn from")
    if kind.masks_inputs:
        raise UserError(f"distill.unlabelled: {kind.kind} needs no labels: its texts are its labels; leave it at false")
    if config.augment.steps and kind.kind in ("token-classification", "question-answering"):
        raise UserError(f"distill.unlabelled and augment.steps exclude each other for {kind.kind}: leave the steps empty")
    own, task, data = config.distill, config.task, config.data
    needs_labels = {
        "distill.alpha_end": own.alpha_end is not None,
        "distill.probability_shift": own.probability_shift,
        "train.label_smoothing": config.train.label_smoothing,
        "task.class_weights": task.class_weights,
        "task.focal_gamma": task.focal_gamma,
        "task.loss": task.loss,
        "unlabelled.data": config.unlabelled.data,
        "data.validation_share": data.validation_share,
        "data.unknown_labels drop": data.unknown_labels == "drop",
        "data.clean.conflicts drop": data.clean.conflicts == "drop",
    }
    if used := [name for name, value in needs_labels.items() if value]:
        raise UserError(f"{used[0]} needs the labels of data.train, which distill.unlabelled leaves out: use one of them")


def task_of_teacher(config: Config, kind: type[Task]) -> Task:
    """The task with the labels of the teacher, or with `task.labels` in their order."""
    task = kind.restore(config, read_hf_config(resolve(next(iter(teacher_paths(config.distill.teacher).values())))))
    given = config.task.labels
    if given and task.labels and list(given) != list(task.labels):
        raise UserError(f"task.labels is {given}, but the teacher has {list(task.labels)}: leave it at null")
    return task
