"""The digests of a run's input files, which are recorded in its directory and compared when it is resumed."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from jaxft.config import Config, DataConfig
from jaxft.config.data import SPLITS
from jaxft.config.of_tasks import every_task
from jaxft.core import checksums, remote
from jaxft.core.errors import UserError, about, some
from jaxft.core.model_source import WEIGHT_FILES, resolve, tokenizer_files
from jaxft.core.paths import is_url, plain
from jaxft.data.reading.sources import revision
from jaxft.run.trained_models import teacher_paths

FILE = "inputs.json"
WEIGHTS = "weights"
Inputs = Mapping[str, Mapping[str, str]]  # {option: {file as messages call it: SHA-256 of its content}}


def read(config: Config) -> Inputs:
    """Digests of all input files of a run: data, model, tokenizer, teacher, new words, synonyms. Missing files are left out.

    A folder of texts is one entry, and so is a split of a hub data set, by its revision.
    """
    found: dict[str, dict[str, str]] = {}
    for name, own in every_task(config).items():
        found |= {_option(name, option): files for option, files in of_data(own.data).items()}
    for option, where in (("unlabelled.data", config.unlabelled.data), ("domains.texts", config.domains.texts)):
        if where:
            paths = where if isinstance(where, list) else [where]
            found[option] = dict(chain.from_iterable(_files(str(path)) for path in paths))
    if paths := {step.file for step in config.augment.steps if step.file}:
        found["augment.steps"] = dict(chain.from_iterable(_files(path) for path in sorted(paths)))
    if config.vocabulary.file:
        found["vocabulary.file"] = dict(_files(config.vocabulary.file))
    if config.model.path:
        directory = resolve(config.model.path, config.model.revision)
        found["model.path"] = _named([directory / "config.json", *tokenizer_files(directory)])
        if not config.model.from_scratch:
            found[WEIGHTS] = _named(_weights(directory))
    if config.model.embeddings:
        with about("model.embeddings"):
            found["model.embeddings"] = _model(resolve(config.model.embeddings))
    if paths := teacher_paths(config.distill.teacher):
        with about("distill.teacher"):
            found["distill.teacher"] = _teachers(paths)
    return found


def of_data(data: DataConfig) -> dict[str, dict[str, str]]:
    """The digests of the files of the splits, by option."""
    found: dict[str, dict[str, str]] = {}
    for split in SPLITS:
        where = getattr(data, split)
        if where is None:
            continue
        if data.dataset:
            if not remote.exists(data.dataset):
                found[f"data.{split}"] = {f"{data.dataset}:{where}": revision(data, split)}
            continue
        paths = where if isinstance(where, list) else [where]
        found[f"data.{split}"] = dict(chain.from_iterable(_files(str(path)) for path in paths))
    if data.dataset:
        found["data.dataset"] = dict(_files(data.dataset))
    return found


def _option(task: str, option: str) -> str:
    """An option of one of several tasks, or of the only one, in the record."""
    return f"task {task} {option}" if task else option


def record(directory: Path, inputs: Inputs) -> None:
    """Write the digests into a run directory."""
    checksums.write_sealed(directory / FILE, inputs)


def changes(directory: Path, inputs: Inputs) -> tuple[list[str], list[str]] | None:
    """What differs from the record in a run directory, or None if there is no record (older versions wrote none).

    Both lists are of lines `option: file has changed`: one for inputs on which every step depends, one for the weights that
    the run started from, which a run with a checkpoint no longer needs.

    Raises:
      UserError: when the record is damaged.
    """
    before = _recorded(directory)
    if before is None:
        return None
    changed = {
        option: differences("model.path" if option == WEIGHTS else option, before.get(option, {}), inputs.get(option, {}))
        for option in {**before, **inputs}
    }
    weights = changed.pop(WEIGHTS, [])
    return list(chain.from_iterable(changed.values())), weights


def check_training_data(directory: Path, config: Config, task: str = "") -> None:
    """Refuse training data, wherever it is now, that has changed since the run began: its rows are known by their numbers.

    `config` is that of the run, or of one of its tasks, whose name is `task`.

    Raises:
      UserError: if it has changed, or the record is damaged.
    """
    before = _recorded(directory)
    if before is None:
        print(f"{directory}: holds no record of the files that this run began with; they are not compared", file=sys.stderr)
        return
    data = replace(config.data, validation=None, test=None)
    inputs, changed = read(Config(data=data)), []
    for option in ("data.train", "data.dataset"):
        there, here = before.get(_option(task, option), {}), inputs.get(option, {})
        if list(there.values()) != list(here.values()):
            changed += differences(option, there, here) or [f"{option}: the files stand in another order"]
    if changed:
        raise UserError(
            f"output_dir {directory}: the run began with other files ({some(changed)}): put the old ones back to evaluate "
            "the rows that it set aside, or give --data.validation FILE"
        )


def refuse(directory: Path, changed: Sequence[str]) -> None:
    """Raise a UserError if input files of a run to be resumed have changed."""
    if changed:
        raise UserError(
            f"output_dir {directory}: the run began with other files ({some(changed)}): put the old ones back to resume it, "
            "or choose another --output_dir for a run on the new ones"
        )


def _recorded(directory: Path) -> Inputs | None:
    try:
        return checksums.read_sealed(directory / FILE)
    except FileNotFoundError:
        return None
    except checksums.Damaged as error:
        raise UserError(
            f"{directory}: {error}, so nobody can tell whether the data and the model are those that the run began with; "
            f"where you know that they are, delete {directory / FILE}"
        ) from error


def differences(option: str, there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Lines `option: file has changed` for the files whose old and new digests differ."""
    found = []
    for name in {**there, **here}:
        if there.get(name) != here.get(name):
            how = "is not there any more" if name not in here else "is new" if name not in there else "has changed"
            found.append(f"{option}: {name} {how}")
    return found


def _teachers(paths: Mapping[str, str]) -> dict[str, str]:
    """The digests of the files of teachers; of several, after the name of each."""
    found = {}
    for name, path in paths.items():
        files = _model(resolve(path))
        found |= {file if len(paths) == 1 else f"{name}/{file}": digest for file, digest in files.items()}
    return found


def _model(directory: Path) -> dict[str, str]:
    return _named([directory / "config.json", *tokenizer_files(directory), *_weights(directory)])


def _weights(directory: Path) -> list[Path]:
    """The weights of a model directory, of the first format that it has, as `weights.tensor_files` opens them."""
    tensors, index, msgpack = (sorted(directory.glob(pattern)) for pattern in WEIGHT_FILES)
    return [*tensors, *index] or msgpack


def _named(files: list[Path]) -> dict[str, str]:
    return {path.name: checksums.of_file(path) for path in files if path.is_file()}


def _files(where: str) -> Iterator[tuple[str, str]]:
    """(name, digest) of a file, of a folder as a whole, or of each file that matches a pattern."""
    found = remote.matching(where)
    if found != [plain(where)]:
        for each in found:
            if is_url(each) or Path(each).is_file():
                yield each, checksums.of_file(Path(remote.local(each)))
        return
    path = Path(remote.local(where)).expanduser()
    if path.is_file():
        yield where, checksums.of_file(path)
    elif path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path)
            # Hidden files are not read, and `datasets` writes caches into the folder of a saved data set.
            left_out = file.name.startswith("cache-") or any(part.startswith(".") for part in inside.parts)
            if file.is_file() and not left_out:
                digest.update(f"{inside.as_posix()}\0{checksums.of_file(file)}\n".encode())
        yield where, digest.hexdigest()
