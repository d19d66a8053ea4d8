"""The run directory: what it records of a run, and how commands read a RUN_OR_MODEL_DIR."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch, fnmatchcase
from functools import cache
from pathlib import Path

from jaxft.config import Config, cli
from jaxft.config.of_tasks import every_task, of_tasks
from jaxft.config.recorded import without_unused
from jaxft.core import checksums, lock
from jaxft.core.distributed import MARK
from jaxft.core.errors import UserError, shown, some
from jaxft.core.lock import is_being_written
from jaxft.core.object_reference import is_reference, module_file
from jaxft.run import input_files
from jaxft.run.trained_models import CONFIG, MODEL, is_run

TOKENIZER = "tokenizer"  # only if it differs from the tokenizer of the model that the run started from
RECORD = "run.json"  # see `record`
VALIDATION_ROWS = "validation_rows.txt"  # numbers of the training rows that are set aside, one per line
ROWS_OF_TASK = "validation_rows.{}.txt"  # of one of several tasks
_CONFIG, _TOKENIZER = f".{CONFIG}", f".{TOKENIZER}"  # their names until they are complete
# Options that may change when a run is resumed: they do not change its result, unless callbacks do.
FREE = (
    *("output_dir", "log.", "mesh.", "runtime.", "checkpoint.keep", "checkpoint.flax"),
    *("data.prefetch", "data.cache", "distill.cache_dir", "distill.compare", "train.callbacks"),
)


def check_claim(config: Config) -> bool:
    """Whether the output directory already holds this run.

    Raises:
      UserError: when it holds another run or other files, or cannot be written.
    """
    directory = Path(config.output_dir)
    path = str(directory.absolute())
    if "\\" in path or not fnmatchcase(path, path):  # orbax looks for what it has saved by a pattern that holds the path
        raise UserError(
            f"output_dir {directory}: checkpoints in {path} could not be read again: \\ and [...] stand for other names "
            "there; choose a name without them"
        )
    if directory.exists() and not directory.is_dir():
        raise UserError(f"output_dir {directory}: is a file")
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"output_dir {directory}: {existing} is a file")
    if not os.access(existing, os.W_OK):
        raise UserError(f"output_dir {directory}: {existing} is not writable")
    files = {path.name for path in directory.iterdir()} if directory.exists() else set()
    files = {name for name in files if not lock.is_lock_file(name) and not name.startswith(MARK)}
    # An interrupted claim leaves temporary files, and others only beside the config's temporary file.
    temporary = {_CONFIG, _TOKENIZER, f".{input_files.FILE}.new", f".{checksums.MANIFEST}.new"}
    texts = {name for name in files if _is_text(name)}
    if files <= (temporary | {TOKENIZER, input_files.FILE, checksums.MANIFEST} | texts if _CONFIG in files else temporary):
        return False
    if not (directory / CONFIG).is_file():
        raise UserError(f"output_dir {directory}: holds files but no {CONFIG} of a run; choose an empty or new directory")
    changed = differences(config, read_run_config(directory))
    if changed:
        raise UserError(
            f"output_dir {directory}: holds another run, which differs in {some(changed)}; choose another --output_dir, "
            "or the same options to resume"
        )
    return True


def make(config: Config) -> Path:
    """Create the output directory if it does not exist, and return it."""
    directory = Path(config.output_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output_dir {directory}: cannot be written: {error.strerror}") from error
    return directory


def sweep(directory: Path) -> None:
    """Remove what an interrupted export has left. Only the process that holds the directory's lock may call this."""
    for leftover in [*directory.glob(f".{MODEL}.*"), *(directory / MODEL).glob(f".{MODEL}.*")]:
        if leftover.is_dir() and not is_being_written(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


def claim(
    config: Config, files: input_files.Inputs, tokenizer: Path | None = None, texts: Mapping[str, str] | None = None
) -> None:
    """Write the record of the input files, the run's own tokenizer, `texts` by file name, their checksums, and config.yaml.

    config.yaml is written last, so that an interrupted claim is recognised.
    """
    directory = make(config)
    as_given = replace(config, output_dir=shown(config.output_dir))  # the URL of which the directory is a copy
    try:
        for leftover in (TOKENIZER, _TOKENIZER):
            shutil.rmtree(directory / leftover, ignore_errors=True)
        for leftover in filter(_is_text, os.listdir(directory)):
            (directory / leftover).unlink(missing_ok=True)
        if tokenizer:
            shutil.copytree(tokenizer, directory / _TOKENIZER)
        (directory / _CONFIG).write_text(cli.dump(as_given), encoding="utf-8")
        input_files.record(directory, files)
        for name, text in (texts or {}).items():
            (directory / name).write_text(text, encoding="utf-8")
        sums = {CONFIG: checksums.entry(directory / _CONFIG)}
        sums |= {name: checksums.entry(directory / name) for name in texts or {} if name != RECORD}  # that has its own
        if tokenizer:
            os.replace(directory / _TOKENIZER, directory / TOKENIZER)
            files_of_it = [path for path in sorted((directory / TOKENIZER).rglob("*")) if path.is_file()]
            sums |= {path.relative_to(directory).as_posix(): checksums.entry(path) for path in files_of_it}
        checksums.write_sealed(directory / checksums.MANIFEST, {"files": sums, "record": RECORD in (texts or {})})
        os.replace(directory / _CONFIG, directory / CONFIG)
    except OSError as error:
        raise UserError(f"output_dir {directory}: cannot be written: {error.strerror}") from error


def _is_text(name: str) -> bool:
    """Whether a file of a run is one of the `texts` that `claim` writes."""
    return name in (RECORD, VALIDATION_ROWS) or fnmatch(name, ROWS_OF_TASK.format("*"))


def validation_rows_file(task: str = "") -> str:
    """The name of the file with the rows that are set aside: of one of several tasks, or of the only one."""
    return ROWS_OF_TASK.format(task) if task else VALIDATION_ROWS


def recorded_tokenizer(config: Config) -> Path | None:
    """The tokenizer in the directory of this run, if any: new words are counted once and then stay the same."""
    directory = Path(config.output_dir)
    if not (directory / TOKENIZER).is_dir() or not is_begun(config):
        return None
    check_unchanged(directory, f"{TOKENIZER}/*")
    return directory / TOKENIZER


def check_unchanged(directory: Path, pattern: str) -> None:
    """Refuse files of a run directory that differ from what the run wrote; an older version wrote no checksums of them.

    Raises:
      UserError: naming the file.
    """
    try:
        checksums.verify(directory, pattern)
    except checksums.Damaged as error:
        raise UserError(
            f"{directory / str(error)}: put back a copy of the file, or begin the run again in another --output_dir"
        ) from error


def is_begun(config: Config) -> bool:
    """Whether the output directory holds the run of this config."""
    directory = Path(config.output_dir)
    return is_run(directory) and not differences(config, read_run_config(directory))


def read_run_config(directory: Path) -> Config:
    """The config of a run directory.

    A line says if it is not as the run wrote it: people edit it, for example when they move files.

    Raises:
      UserError: when it names a Python module in that directory: code that comes with a model is never executed.
    """
    path = directory / CONFIG
    try:
        checksums.verify(directory, CONFIG)
    except checksums.Damaged as error:
        _say_once(f"{directory / str(error)}: its options are taken as they are now")
    config = cli.parse(without_unused(cli.read_yaml(path)), [], origin=str(path))
    named = [config.optim.name, *config.eval.metrics, *config.train.callbacks]
    named += [x for own in every_task(config).values() for x in (own.task.name, own.task.loss or "")]
    named += [step.step for step in config.augment.steps]
    for reference in filter(is_reference, named):
        if (file := module_file(reference)) and file.is_relative_to(directory.resolve()):
            raise UserError(
                f"{path}: names {reference}, which lies in the run directory; only your own modules are imported"
            )
    return config


def config_of(path: str, overrides: Sequence[str], *, task: str | None = None) -> Config:
    """The config of a run, or the defaults for a model directory, with the options `--section.field value` applied.

    Some options of a run are for its training, and are not used unless they are given: `eval.metric`, which chose the best
    model, `task.threshold`, which is "tune" instead and stands for the model's own threshold, and `runtime.distributed`,
    since a model of many machines is used on one. Of a run of several tasks it is the config of the one that `task` names.

    Raises:
      UserError: for a wrong option, or a task that is not named, or that the run does not have.
    """
    found, directory = Config(), run_of(path)
    whole = read_run_config(directory) if is_run(directory) else None
    configs = of_tasks(whole) if whole is not None else {}
    if task is not None and not directory.is_dir():
        raise UserError(f"{path}: no such directory; --task {task} needs that of a run of several tasks")
    if task is not None and task not in configs:
        have = f"its tasks are {', '.join(configs)}" if configs else "it has no tasks with names; leave --task out"
        raise UserError(f"--task {task}: not a task of {path}: {have}")
    if task is not None and (own := task_of(path)) and own != task:
        raise UserError(f"--task {task}: {path} is the model of {own}: leave --task out, or give {directory}")
    if whole is not None and is_run(Path(path)):
        if configs and task is None:
            raise UserError(
                f"{path}: a run of several tasks: name one of {', '.join(configs)} (--task NAME), or give {path}/model/NAME"
            )
        found = configs[task] if task is not None else whole
    found = replace(
        found,
        task=replace(found.task, threshold="tune"),
        eval=replace(found.eval, metric=None),
        runtime=replace(found.runtime, distributed="auto"),
    )
    # Parsing all of it again takes a fifth of a second.
    return cli.parse(cli.as_dict(found), overrides, origin=path) if overrides else found


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def differences(new: Config, old: Config) -> list[str]:
    """`field (old there, new here)` for every field that has changed and may not."""
    flat_new, flat_old = (cli.flatten(cli.as_dict(c)) for c in (new, old))
    changed = sorted(k for k in flat_new if flat_new[k] != flat_old.get(k) and not k.startswith(FREE))
    return [f"{k} ({flat_old.get(k)} there, {flat_new[k]} here)" for k in changed]


def run_of(path: str) -> Path:
    """The run directory of RUN_OR_MODEL_DIR: the parent of a run's own model/ or model/TASK, or else the path itself."""
    given = Path(path)
    resolved = given.resolve()
    for folder in () if is_run(given) else (resolved, resolved.parent):
        if folder.name == MODEL and is_run(folder.parent):
            return folder.parent
    return given


def task_of(path: str) -> str:
    """The name of the task whose model/TASK of a run of several this is; empty for any other RUN_OR_MODEL_DIR."""
    resolved = Path(path).resolve()
    return resolved.name if run_of(path) == resolved.parent.parent and not is_run(Path(path)) else ""


def has_set_aside(config: Config) -> bool:
    """Whether the validation rows are training rows that the run has set aside."""
    return bool(not config.data.validation and config.data.validation_share and config.data.train)
