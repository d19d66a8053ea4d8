"""The config of each of several tasks: that of the run, with the task's own options laid over `task` and `data`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxft.config import cli
from jaxft.config.schema import Config
from jaxft.config.several import NamedTaskConfig, SamplingConfig
from jaxft.core.errors import UserError

OF_THE_RUN = ("layout", "shapes", "order_seed", "prefetch", "teacher")  # options of `data` that no task has of its own


def of_tasks(config: Config) -> dict[str, Config]:
    """The config of each task by its name, as if it were alone; empty for a run of one task.

    An `eval.metric` such as NAME/accuracy is that of its task.

    Raises:
      UserError: for an option that is wrong, with the number of the task, counted from 1.
    """
    found = {}
    for number, own in enumerate(config.tasks, 1):
        where = f"tasks {number}"
        for name in OF_THE_RUN:
            if name in own.data:
                raise UserError(f"{where}: data.{name} is of the whole run: give it in the section data, not in a task")
        try:
            found[own.name] = _config_of(config, own)
        except UserError as error:
            raise UserError(f"{where}: {str(error).removeprefix(': ')}") from error
    return found


def _config_of(config: Config, own: NamedTaskConfig) -> Config:
    shared = {name: dataclasses.asdict(getattr(config, name)) for name in ("task", "data")}
    values = {name: _laid_over(shared[name], getattr(own, name)) for name in shared}
    parsed = cli.parse(values, [], origin="", prog="jaxft")
    task, _, metric = (config.eval.metric or "").rpartition("/")
    return dataclasses.replace(
        config,
        task=parsed.task,
        data=parsed.data,
        eval=dataclasses.replace(config.eval, metric=metric if task == own.name else None),
        tasks=[],
        sampling=SamplingConfig(),
    )


def _laid_over(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a section with some in the place of others; a section in it is laid over in the same way."""
    both = dict(shared)
    for name, value in own.items():
        before = shared.get(name)
        both[name] = _laid_over(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return both
