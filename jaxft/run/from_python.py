"""The config of a run from Python: a file, a `Config` or sections with rows and models that are in memory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxft.config import Config, cli
from jaxft.core.errors import UserError
from jaxft.core.object_reference import reference_of
from jaxft.core.paths import check_url
from jaxft.data.reading.memory import stored_rows
from jaxft.models.in_memory import stored_model

ORIGIN = "jaxft.Trainer"
_ROWS = ("data.train", "data.validation", "data.test")


def config_of(config: str | os.PathLike[str] | Config | None, sections: Mapping[str, Any]) -> Config:
    """A config, checked as that of a file is.

    Args:
      config: the path of a file, a `Config`, or None for the defaults.
      sections: by name, merged over it, such as `train={"epochs": 1}`; rows and models in memory are written to the cache
        folder, and the config names these files. A task, a loss, metrics (also a dict by name), an optimizer and steps of
        augmentation may be objects, which the config names as module:name.

    Raises:
      UserError: for an unknown option, a value out of range, or rows or a model that cannot be used.
    """
    origin, values = ORIGIN, {}
    if isinstance(config, Config):
        values = cli.as_dict(config)
    elif config is not None:
        origin = os.fspath(config)
        check_url("config", origin)
        values = cli.read_yaml(origin)
    for name, section in sections.items():
        before = values.get(name)
        both = isinstance(before, dict) and isinstance(section, Mapping)
        values[name] = dict(before or {}, **section) if both else section
    _set_objects(values)
    for option in ("unlabelled.data", "domains.texts"):
        _set(values, option, _file_of_rows)
    if isinstance(tasks := values.get("tasks"), list):
        values["tasks"] = [dict(x) if isinstance(x, dict) else x for x in tasks]
        for own in values["tasks"]:
            if isinstance(own, dict):
                _set_objects(own)
    _set(values, "model.path", _directory_of_model)
    _set(values, "distill.teacher", _directories_of_models)
    _set(values, "optim.name", _reference)
    _set(values, "eval.metrics", _metrics)
    _set(values, "augment.steps", _steps)
    return cli.parse(values, [], origin=origin)


def _set_objects(values: dict[str, Any]) -> None:
    """Convert rows in memory and objects of the sections `data` and `task`, which each of several tasks has, too."""
    for option in _ROWS:
        if _set(values, option, _file_of_rows):
            values["data"]["dataset"] = None  # its splits are replaced
    for option in ("task.name", "task.loss"):
        _set(values, option, _reference)


def _set(values: dict[str, Any], option: str, convert: Any) -> bool:
    """Convert the value of an option if it is given, and tell whether that has written anything."""
    section, _, name = option.partition(".")
    content = values.get(section)
    if not isinstance(content, dict) or content.get(name) is None:
        return False
    given = content[name]
    made = convert(given, option)
    values[section] = {**content, name: made}
    return not _is_path(given)


def _is_path(given: Any) -> bool:
    """Whether a value names a file, or is a list of names."""
    return isinstance(given, (str, Path)) or (isinstance(given, list) and all(isinstance(x, (str, Path)) for x in given))


def _reference(given: Any, option: str) -> Any:
    return reference_of(given, option) if callable(given) else given


def _metrics(given: Any, option: str) -> Any:
    """References for a function, a list of functions or references, or functions by the name of their metric."""
    if isinstance(given, Mapping):
        return [reference_of(function, option, name) for name, function in given.items()]
    given = [given] if callable(given) else given
    return [_reference(each, option) for each in given] if isinstance(given, (list, tuple)) else given


def _steps(given: Any, option: str) -> Any:
    if not isinstance(given, list):
        return given
    steps = [{"step": each} if callable(each) else each for each in given]
    return [{**x, "step": _reference(x["step"], option)} if isinstance(x, dict) and "step" in x else x for x in steps]


def _file_of_rows(given: Any, option: str) -> Any:
    if _is_path(given):
        return [str(x) for x in given] if isinstance(given, list) else str(given)
    return stored_rows(given, option)


def _directories_of_models(given: Any, option: str) -> Any:
    return [_directory_of_model(x, option) for x in given] if isinstance(given, list) else _directory_of_model(given, option)


def _directory_of_model(given: Any, option: str) -> str:
    if isinstance(given, (str, Path)):
        return str(given)
    if not isinstance(given, tuple):
        raise UserError(f"{option} is a {type(given).__name__}: must be a path, a hub id, or what jaxft.load returns")
    return stored_model(given, option)
