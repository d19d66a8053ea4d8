"""Where trained models are: the model/ of a run directory, and those that a pattern finds."""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxft.core import remote
from jaxft.core.errors import UserError, some
from jaxft.core.model_source import NOT_READ
from jaxft.core.paths import check_url, is_url, plain

CONFIG = "config.yaml"
MODEL = "model"
_NOT_COPIED = (".*", "*.lock", "checkpoints/*", "frozen/*", "events.out.*", "profile/*")  # of a run that is only read


def is_run(directory: Path) -> bool:
    """Whether a directory is a run directory."""
    return (directory / CONFIG).is_file()


def fetched(path: str) -> str:
    """RUN_OR_MODEL_DIR as a local path: of a run or model at a URL, a copy without its checkpoints.

    Raises:
      UserError: if it is not there, or cannot be read.
    """
    check_url("RUN_OR_MODEL_DIR", path)
    path = plain(path)
    if not is_url(path):
        return path
    root, inside = path.rstrip("/"), ""
    for _ in range(3):  # the run itself, or its model/ or model/TASK
        if inside.partition("/")[0] in ("", MODEL) and remote.exists(f"{root}/{CONFIG}"):
            return os.path.join(remote.local(root, skip=_NOT_COPIED), inside)
        root, _, name = root.rpartition("/")
        inside = f"{name}/{inside}".rstrip("/")
        if "://" not in root:
            break
    return remote.local(path, skip=NOT_READ)


def model_directory(path: str) -> str:
    """The model directory of RUN_OR_MODEL_DIR: a run's model/, or the path itself.

    Raises:
      UserError: for a run that has not finished, or one of several tasks, which has several models.
    """
    directory = Path(path)
    if not is_run(directory):
        return path
    if not (directory / MODEL / "config.json").is_file() and (names := tasks_with_models(directory)):
        raise UserError(
            f"{path}: has a model for each of its tasks: give {path}/{MODEL}/{names[0]}, or another of {some(names)}"
        )
    if not (directory / MODEL / "config.json").is_file():
        raise UserError(f"{path}: the run has no {MODEL}/ yet; finish it, or write one with python -m jaxft.export {path}")
    return str(directory / MODEL)


def teacher_paths(given: str | Sequence[str] | None) -> dict[str, str]:
    """The model directory (or hub id) of each teacher by its name.

    Raises:
      UserError: for a pattern that matches no directory, a run without a model, or a teacher that is named twice.
    """
    found: dict[str, str] = {}
    for name in [given] if isinstance(given, str) else given or []:
        paths = [name]
        if (matching := remote.matching(name, directories=True)) != [plain(name)]:
            paths = [x for x in matching if is_url(x) or Path(x).is_dir()]
            if not paths:
                raise UserError(f"distill.teacher {name}: no directory matches this pattern")
        for path in paths:
            directory = model_directory(fetched(str(Path(path).expanduser()) if path.startswith("~") else path))
            if same := next((name for name, other in found.items() if _is_same(directory, other)), None):
                twice = f"{path} twice" if path == same else f"one model twice ({same} and {path})"
                raise UserError(f"distill.teacher names {twice}: distill.teacher_weights gives a teacher more weight")
            found[path] = directory
    return found


def tasks_with_models(directory: Path) -> list[str]:
    """The names of the tasks of a run that has a model for each, in model/NAME."""
    return sorted(x.parent.name for x in (directory / MODEL).glob("*/config.json"))


def model_of_task(path: str, task: str | None) -> str:
    """RUN_OR_MODEL_DIR with the name of a task of a run of several: the model of this task; without one, the path itself.

    Raises:
      UserError: for a run that has not finished, or has no such task.
    """
    if task is None or not is_run(Path(path)):
        return path
    directory = Path(path) / MODEL / task
    if not (directory / "config.json").is_file():
        if names := tasks_with_models(Path(path)):
            raise UserError(f"{path}: has no task {task}; its tasks are {', '.join(names)}")
        raise UserError(f"{path}: the run has no {MODEL}/{task} yet; finish it, or write one with jaxft export {path}")
    return str(directory)


def _is_same(path: str, other: str) -> bool:
    """Whether two paths, or hub ids, are of one model."""
    return path == other or (os.path.isdir(path) and os.path.realpath(path) == os.path.realpath(other))
