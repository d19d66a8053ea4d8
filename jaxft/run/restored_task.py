"""The task of a run that has begun, from its record."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxft.config import Config
from jaxft.config.of_tasks import of_tasks
from jaxft.run.record import Record
from jaxft.tasks import task_class
from jaxft.tasks.several import several_tasks
from jaxft.tasks.task import Task


def restored(config: Config, hf_config: Mapping[str, Any], record: Record, fields: Mapping[str, Any] | None = None) -> Task:
    """The task with the labels that the run began with.

    Args:
      config: of the run.
      hf_config: the config.json of the model that it started from.
      record: of the run.
      fields: the task's fields of config.json, in place of those of the record (of several tasks, by name).
    """
    fields = record.fields if fields is None else fields
    configs = of_tasks(config)
    if not configs:
        return _restored(config, hf_config, record.labels_of(), fields)
    tasks = {name: _restored(own, hf_config, record.labels_of(name), fields[name]) for name, own in configs.items()}
    return several_tasks(tasks, {x.name: x.weight for x in config.tasks})


def _restored(config: Config, hf_config: Mapping[str, Any], labels: Sequence[str] | None, fields: Mapping[str, Any]) -> Task:
    named = {} if labels is None else {"id2label": {str(i): name for i, name in enumerate(labels)}}
    return task_class(config).restore(config, {**hf_config, **fields, **named})
