"""The run directory: which config it belongs to, and how a directory given to a command is read."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxft import cli
from jaxft.config import Config
from jaxft.errors import UserError, some

CONFIG = "config.yaml"
MODEL = "model"
TOKENIZER = "tokenizer"  # where the run has another than the model it started from
RECORD = "run.json"  # what the run has learnt of its data (see `record`)
VALIDATION_ROWS = "validation_rows.txt"  # numbers of the training rows that are set aside, a line each
# What a claim that was cut short leaves: files under their temporary names, and perhaps some of them renamed.
_CONFIG, _TOKENIZER = f".{CONFIG}", f".{TOKENIZER}"
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
    if not directory.exists() or _is_cut_short({path.name for path in directory.iterdir()}):
        return False
    if not (directory / CONFIG).is_file():
        raise UserError(f"output_dir {directory}: holds files but no {CONFIG} of a run; choose an empty or new directory")
    changed = differences(config, read_config(directory))
    if changed:
        raise UserError(
            f"output_dir {directory}: holds another run, which differs in {some(changed)}; give --output_dir another name, "
            "or the same options to resume"
        )
    return True


def _is_cut_short(names: set[str]) -> bool:
    return names <= {_TOKENIZER, _CONFIG} or (_CONFIG in names and names <= {_TOKENIZER, _CONFIG, TOKENIZER} | _TEXTS)


def claim(config: Config, tokenizer: Path | None = None, texts: Mapping[str, str] | None = None) -> None:
    """Write config.yaml into the (new) run directory, the files of the run's own tokenizer, and texts by their names."""
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
    return written if is_run(directory) and written.is_dir() and not differences(config, read_config(directory)) else None


def read_config(directory: Path) -> Config:
    """The config of a run directory."""
    path = directory / CONFIG
    return cli.parse(cli.read_yaml(path), [], origin=str(path), prog="jaxft")


def config_of(path: str, overrides: Sequence[str], *, prog: str) -> Config:
    """The config of RUN_OR_MODEL_DIR, its run's or else the defaults, with `--section.field value` given anew."""
    values = cli.as_dict(read_config(Path(path))) if is_run(Path(path)) else {}
    return cli.parse(values, overrides, origin=path, prog=prog)


def differences(new: Config, old: Config) -> list[str]:
    """`field: old -> new` for every field that may not change."""
    flat_new, flat_old = (cli.flatten(cli.as_dict(c)) for c in (new, old))
    changed = sorted(k for k in flat_new if flat_new[k] != flat_old.get(k) and not k.startswith(FREE))
    return [f"{k} ({flat_old.get(k)} there, {flat_new[k]} here)" for k in changed]


def is_run(directory: Path) -> bool:
    """Whether a directory is a run directory."""
    return (directory / CONFIG).is_file()


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
