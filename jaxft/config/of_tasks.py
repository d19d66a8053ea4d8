"""The config of each of several tasks: that of the run, with the task's own options laid over `task` and `data`."""

import dataclasses
import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from jaxft.config import cli
from jaxft.config.schema import Config
from jaxft.config.several import NamedTaskConfig, SamplingConfig
from jaxft.core.errors import UserError, about

OF_THE_RUN = ("layout", "shapes", "order_seed", "prefetch", "teacher")  # options of `data` that no task has of its own


def of_tasks(config: Config) -> dict[str, Config]:
    """The config of each task by its name, as if it were alone; empty for a run of one task.

    An `eval.metric` such as NAME/accuracy is that of its task.

    Raises:
      UserError: for an option that is wrong, with the name of the task.
    """
    return dict(_of_tasks(_ByContent(config)))


def every_task(config: Config) -> dict[str, Config]:
    """As `of_tasks`, but the only task of a run has its config, too, under the empty name."""
    return of_tasks(config) or {"": config}


def naming_task(name: str) -> AbstractContextManager[None]:
    """In messages, name the task that they are about, one of several; the empty name is the only task."""
    return about(f"task {name}" if name else "")


class _ByContent:
    """A config as the key of a cache: parsing its tasks takes tenths of a second, and they are asked for again and again."""

    def __init__(self, config: Config) -> None:
        self.config, self._text = config, repr(config)

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByContent) and self._text == other._text


@functools.lru_cache(maxsize=16)
def _of_tasks(key: _ByContent) -> Mapping[str, Config]:
    config, found = key.config, {}
    for own in config.tasks:
        with naming_task(own.name):
            for name in OF_THE_RUN:
                if name in own.data:
                    raise UserError(f"data.{name} is of the whole run: give it in the section data, not in a task")
            found[own.name] = _config_of(config, own)
    return found


def _config_of(config: Config, own: NamedTaskConfig) -> Config:
    shared = {name: dataclasses.asdict(getattr(config, name)) for name in ("task", "data")}
    values = {name: _laid_over(shared[name], getattr(own, name)) for name in shared}
    parsed = cli.parse(values, [], origin="")
    task, _, metric = (config.eval.metric or "").rpartition("/")
    return dataclasses.replace(
        config,
        output_dir=str(Path(config.output_dir) / own.name),
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
