"""The data of several tasks in one run: each is read as if it were alone, and their examples follow one another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxft.config import Config
from jaxft.config.data import SPLITS
from jaxft.config.of_tasks import naming_task, of_tasks
from jaxft.core.errors import UserError, nearest
from jaxft.data.reading.empty_texts import check_not_kept
from jaxft.run.record import Record
from jaxft.run.splits import RunData, read_data
from jaxft.tasks import task_options
from jaxft.tasks.several import several_tasks
from jaxft.tasks.several_splits import combine


def read_tasks(config: Config, directory: Path, hf_config: Mapping[str, Any], known: Record | None) -> RunData:
    """Read and tokenise the data of every task; a resumed run keeps the labels that it recorded (`known`).

    Raises:
      UserError: for what is missing or malformed, with the name of the task.
    """
    found: dict[str, RunData] = {}
    for name, own in of_tasks(config).items():
        with naming_task(name):
            check_not_kept(own.data)
            found[name] = read_data(_with_labels(own, known and known.labels_of(name)), directory, hf_config)
            _check_texts(found[name])
    task = several_tasks(
        {name: x.task for name, x in found.items()},
        {x.name: x.weight for x in config.tasks},
        {name: x.splits["train"].examples.group for name, x in found.items()},
    )
    if config.eval.metric is not None and config.eval.metric not in task.metrics:
        near = nearest(config.eval.metric, task.metrics)
        raise UserError(f"eval.metric is {config.eval.metric}: must be one of {', '.join(task.metrics)}{near}")
    _check_evaluations(config, found)
    like = {name: x.splits["train"].examples for name, x in found.items()}
    splits = {split: {name: x.splits[split] for name, x in found.items() if split in x.splits} for split in SPLITS}
    data = {split: combine(parts, like) for split, parts in splits.items() if parts}
    notes = tuple(f"task {name}: {note}" for name, x in found.items() for note in x.notes)
    return RunData(task, data, next(iter(found.values())).vocabulary, notes)


def _check_texts(data: RunData) -> None:
    """Check that the examples of all splits have as many texts, because the batches of all have the same form."""
    own = data.splits["train"].examples.group
    for split in data.splits.values():
        if (other := split.examples.group) != own:
            raise UserError(
                f"{split.origin}: the examples have {other} choices, those of the training data {own}: must be as many, in "
                "a run of several tasks"
            )


def _check_evaluations(config: Config, found: Mapping[str, RunData]) -> None:
    """Check that there are validation data for what follows their scores."""
    evaluated = [name for name, x in found.items() if "validation" in x.splits]
    followers = {"optim.schedule plateau": config.optim.schedule == "plateau", "train.patience": config.train.patience}
    for name, used in followers.items():
        if used and not evaluated:
            raise UserError(f"{name} follows evaluations: give a task data.validation or data.validation_share")
    chosen = (config.eval.metric or "").rpartition("/")[0]
    if chosen and evaluated and chosen not in evaluated:
        raise UserError(f"eval.metric is {config.eval.metric}: give {chosen} data.validation or data.validation_share")


def _with_labels(config: Config, labels: Sequence[str] | None) -> Config:
    if labels is None or "labels" not in task_options(config.task):
        return config
    return replace(config, task=replace(config.task, labels=list(labels)))


def longest_text(config: Config) -> int:
    """`data.max_length` of the task with the longest texts."""
    return max([own.data.max_length for own in of_tasks(config).values()], default=config.data.max_length)
