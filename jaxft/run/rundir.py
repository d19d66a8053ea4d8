"""The run directory: which config it belongs to, and how a directory given to a command is read."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jaxft.config import Config, cli
from jaxft.core import lock
from jaxft.core.distributed import MARK
from jaxft.core.errors import UserError, some
from jaxft.core.lock import is_being_written
from jaxft.core.urls import refuse_url
from jaxft.run import input_files

CONFIG = "config.yaml"
MODEL = "model"
TOKENIZER = "tokenizer"  # where the run has another than the model it started from
RECORD = "run.json"  # what the run has learnt of its data (see `record`)
VALIDATION_ROWS = "validation_rows.txt"  # numbers of the training rows that are set aside, a line each
_CONFIG, _TOKENIZER = f".{CONFIG}", f".{TOKENIZER}"  # until they are whole
_TEXTS = {RECORD, VALIDATION_ROWS}
# What may change between the beginning of a run and its resumption without changing its result.
FREE = ("output_dir", "log.", "mesh.", "runtime.", "checkpoint.keep", "data.prefetch", "data.cache", "checkpoint.flax")


def check_claim(config: Config) -> bool:
    """Whether the output directory already holds this run.

    Raises:
      UserError: when it holds another run or other files, or cannot be written.
    """
    directory = Path(config.output_dir)
    if directory.exists() and not directory.is_dir():
        raise UserError(f"output_dir {directory}: is a file")
    probe = directory
    while not probe.exists():
        probe = probe.parent
    if not probe.is_dir():
        raise UserError(f"output_dir {directory}: {probe} is a file")
    if not os.access(probe, os.W_OK):
        raise UserError(f"output_dir {directory}: {probe} is not writable")
    names = {path.name for path in directory.iterdir()} if directory.exists() else set()
    if _cut_short({name for name in names if not lock.is_lock_file(name) and not name.startswith(MARK)}):
        return False
    if not (directory / CONFIG).is_file():
        raise UserError(f"output_dir {directory}: holds files but no {CONFIG} of a run; choose an empty or new directory")
    changed = differences(config, read_run_config(directory))
    if changed:
        raise UserError(
            f"output_dir {directory}: holds another run, which differs in {some(changed)}; give --output_dir another name, "
            "or the same options to resume"
        )
    return True


def _cut_short(names: set[str]) -> bool:
    """Whether a claim that was cut short left these files: temporary ones, and with the config's the others renamed."""
    temporary = {_CONFIG, _TOKENIZER, f".{input_files.FILE}.new"}
    return names <= (temporary | {TOKENIZER, input_files.FILE} | _TEXTS if _CONFIG in names else temporary)


def make(config: Config) -> Path:
    """The output directory, made if it is not there."""
    directory = Path(config.output_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output_dir {directory}: cannot be written: {error.strerror}") from error
    return directory


def sweep(directory: Path) -> None:
    """Remove what a model that was only half written has left; for the owner of the directory's lock."""
    for leftover in [*directory.glob(f".{MODEL}.*"), *(directory / MODEL).glob(f".{MODEL}.*")]:
        if leftover.is_dir() and not is_being_written(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


def claim(
    config: Config, files: input_files.Inputs, tokenizer: Path | None = None, texts: Mapping[str, str] | None = None
) -> None:
    """Write into the (new) run directory what files it is made from, a tokenizer of its own, texts by their names, and at
    last config.yaml."""
    directory = Path(config.output_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in (TOKENIZER, _TOKENIZER):
            shutil.rmtree(directory / leftover, ignore_errors=True)
        for leftover in _TEXTS:
            (directory / leftover).unlink(missing_ok=True)
        if tokenizer:
            shutil.copytree(tokenizer, directory / _TOKENIZER)
        (directory / _CONFIG).write_text(cli.dump(config), encoding="utf-8")
        input_files.record(directory, files)
        for name, text in (texts or {}).items():
            (directory / name).write_text(text, encoding="utf-8")
        if tokenizer:
            os.replace(directory / _TOKENIZER, directory / TOKENIZER)
        os.replace(directory / _CONFIG, directory / CONFIG)
    except OSError as error:
        raise UserError(f"output_dir {directory}: cannot be written: {error.strerror}") from error


def recorded_tokenizer(config: Config) -> Path | None:
    """The tokenizer that this run has written into its directory: words are counted once, and then stay the same."""
    directory = Path(config.output_dir)
    written = directory / TOKENIZER
    same = is_run(directory) and written.is_dir() and not differences(config, read_run_config(directory))
    return written if same else None


def read_run_config(directory: Path) -> Config:
    """The config of a run directory."""
    path = directory / CONFIG
    return cli.parse(cli.read_yaml(path), [], origin=str(path), prog="jaxft")


def config_of(path: str, overrides: Sequence[str], *, prog: str) -> Config:
    """The config of RUN_OR_MODEL_DIR, its run's or else the defaults, with `--section.field value` given anew.

    `task.threshold` is "tune" unless it is given: the model's own.
    """
    refuse_url("RUN_OR_MODEL_DIR", path)
    values = cli.as_dict(read_run_config(Path(path))) if is_run(Path(path)) else {}
    config = cli.parse(values, overrides, origin=path, prog=prog)
    given = any(option.partition("=")[0] == "--task.threshold" for option in overrides)
    return config if given else replace(config, task=replace(config.task, threshold="tune"))


def differences(new: Config, old: Config) -> list[str]:
    """`field: old -> new` for every field that may not change."""
    flat_new, flat_old = (cli.flatten(cli.as_dict(c)) for c in (new, old))
    changed = sorted(k for k in flat_new if flat_new[k] != flat_old.get(k) and not k.startswith(FREE))
    return [f"{k} ({flat_old.get(k)} there, {flat_new[k]} here)" for k in changed]


def is_run(directory: Path) -> bool:
    """Whether a directory is a run directory."""
    return (directory / CONFIG).is_file()


def run_of(path: str) -> Path:
    """The run directory behind RUN_OR_MODEL_DIR, also of a run's own model/; else the path itself."""
    given = Path(path)
    whole = given.resolve()
    return whole.parent if not is_run(given) and whole.name == MODEL and is_run(whole.parent) else given


def model_directory(path: str) -> str:
    """The model behind RUN_OR_MODEL_DIR: a run's model/, or the path itself.

    Raises:
      UserError: for a run that has not finished.
    """
    directory = Path(path)
    if not is_run(directory):
        return path
    if not (directory / MODEL / "config.json").is_file():
        raise UserError(f"{path}: the run has no {MODEL}/ yet; finish it, or write one with python -m jaxft.export {path}")
    return str(directory / MODEL)
