"""Reads rows from files, saved Arrow directories and hub data sets, with errors that name the file and row."""

import errno
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from jaxft.config import DataConfig
from jaxft.core import checksums, distributed
from jaxft.core.errors import UserError, nearest, one_line, some
from jaxft.core.paths import is_url
from jaxft.core.remote import local
from jaxft.core.utf8 import read_text
from jaxft.data.reading import files
from jaxft.data.reading.delimited import separator_advice
from jaxft.data.reading.json_rows import Request
from jaxft.data.reading.row_numbers import with_files
from jaxft.data.reading.tables import read_table

_SAVED, _SAVED_SPLITS = "state.json", "dataset_dict.json"  # what save_to_disk writes for a Dataset, for a DatasetDict


def read_rows(
    config: DataConfig,
    split: str,
    *,
    needed: Sequence[str],
    wanted: Sequence[str] = (),
    lists: bool = False,
    kinds: Mapping[str, type] | None = None,
) -> Any:
    """Reads the requested columns of a split as a `datasets.Dataset`.

    Args:
      config, split: the files or hub data set; columns of csv and tsv files are read as text without nulls.
      needed: columns that must exist.
      wanted: columns that are read if they exist. All other columns are not checked.
      lists, kinds: as in `json_rows.Request`.

    Raises:
      UserError: if a file is absent, empty, not in the format that its name implies, or lacks a column.
    """
    import pyarrow as pa

    needed = [*needed, config.teacher] if config.teacher and split == "train" else needed
    columns = list(dict.fromkeys([*needed, *wanted]))
    rows, names = _open(config, split, Request(columns, lists, kinds or {}, config.empty_texts == "null"))
    where = files.origin(config, split)
    for column in needed:
        if names and column not in names:
            others = [name for name in names if name != config.label]  # do not suggest the label column
            options = [f"; data.{x.name} names it" for x in fields(config) if getattr(config, x.name) == column]
            advice = separator_advice(names) or nearest(column, others) or "".join(options[:1])
            raise UserError(f'{where}: no column "{column}" (columns: {some(names, 50)}){advice}')
    if rows is None or len(rows) == 0:
        raise UserError(f"{where}: no rows")
    rows = rows.select_columns([c for c in rows.column_names if c in columns])
    if rows.cache_files:
        try:
            rows.data.table.validate(full=True)  # Arrow trusts a damaged file, and would read beyond its end
        except pa.ArrowInvalid as error:
            raise files.unreadable(where, error) from error
    return rows


def column_names(config: DataConfig, split: str) -> list[str]:
    """The names of a split's columns, in order, without empty names."""
    return [name for name in _open(config, split, Request())[1] if name]


def revision(config: DataConfig, split: str) -> str:
    """An identifier of the content of a hub data set's split: the fingerprint of `datasets`, made from the revision."""
    return str(_open(config, split, Request())[0]._fingerprint)


def _open(config: DataConfig, split: str, request: Request) -> tuple[Any, list[str]]:
    """(rows with at least the requested columns that exist, names of all columns); the rows are None if there are none."""
    if config.dataset:
        rows = _split_of_dataset(config, split)
        return rows, list(rows.column_names)
    paths = files.files_of(config, split)
    if any(path.is_dir() for path in paths):
        if len(paths) > 1:
            raise UserError(f"{files.origin(config, split)}: a directory must be the only path (data.{split})")
        rows = _directory(paths[0], f"data.{split}")
        return rows, list(rows.column_names)
    import datasets

    table, names, counts = read_table(paths, config, request)
    if table is None or not table.num_columns:
        return None, names
    content = [request, config.columns, config.quotes, *map(checksums.of_file, paths)]  # not the files' names and times
    fingerprint = hashlib.sha256(repr(content).encode()).hexdigest()[:32]
    return datasets.Dataset(table, info=with_files(counts), fingerprint=fingerprint), names


def _directory(directory: Path, field: str) -> Any:
    if (directory / _SAVED).is_file():
        return _saved(directory)
    if (directory / _SAVED_SPLITS).is_file():
        raise UserError(
            f"{directory}: is a saved data set with splits; give it as data.dataset, and {field} the name of a split"
        )
    rows = _label_folders(directory)
    return files.existing_file(str(directory), field) if rows is None else rows


def _label_folders(root: Path) -> Any | None:
    """Reads a directory with one folder per label and one .txt file per example, such as IMDB's reviews: a
    `datasets.Dataset` with the columns text and label; None if no folder of `root` contains .txt files.

    Labels are interleaved in proportion to their numbers of files, and files are sorted by name within a label, so the first
    N rows contain all labels for any N that is not small. Hidden folders and files are ignored.
    """
    import datasets

    labels = sorted(folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    paths = {x: sorted(p for p in (root / x).glob("*.txt") if not p.name.startswith(".")) for x in labels}
    interleaved = sorted((i / len(group), label, path) for label, group in paths.items() for i, path in enumerate(group))
    if not interleaved:
        return None
    texts = [read_text(path) for _, _, path in interleaved]
    return datasets.Dataset.from_dict({"text": texts, "label": [label for _, label, _ in interleaved]})


def _saved(directory: Path) -> Any:
    """The Dataset or DatasetDict in a directory that `save_to_disk` has written."""
    import datasets

    try:
        return datasets.load_from_disk(str(directory)).with_format(None)  # all columns, as plain values
    except Exception as error:  # of many kinds, as in _split_of_dataset
        raise files.unreadable(directory, error) from error


def _split_of_dataset(config: DataConfig, field: str) -> Any:
    """The rows that a field (train ...) names of `data.dataset`: on the hub, or in a directory of `save_to_disk`."""
    import datasets

    name, split = str(config.dataset), getattr(config, field)
    if not isinstance(split, str):
        raise UserError(f"{name}: a list of splits is not read ({', '.join(split)}); name one")
    directory = Path(local(name)).expanduser()
    if (directory / _SAVED_SPLITS).is_file():
        splits = _saved(directory)
        if split not in splits:
            raise UserError(f"{name}: no split {split} (splits: {', '.join(map(str, splits))})")
        return splits[split]
    if (directory / _SAVED).is_file():
        rows = _saved(directory)
        saved_split = str(rows.split or "train")
        if split not in (saved_split, "train"):
            raise UserError(
                f"{name}: no split {split}: it is a saved data set without splits, which is called {saved_split}"
            )
        return rows
    if is_url(name):
        raise UserError(f"{name}: is no data set of save_to_disk (data.dataset); name files in data.{field}")
    origin = f"{name}:{split}"
    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)
    try:
        return load_verified(partial(datasets.load_dataset, name, name=config.dataset_config, split=split))
    except Exception as error:  # builders wrap errors of pandas, pyarrow and the hub in their own
        cause = error.__cause__ or error
        if "corresponds to no data" in str(cause):
            raise UserError(f"{origin}: no rows") from error
        if isinstance(error, ConnectionError):  # that of Python, which `datasets` raises
            raise UserError(
                f"{origin}: is not in the cache, and the hub cannot be reached: download it on a machine with a connection "
                f"(HF_HOME names the cache), or give files (--data.dataset null --data.{field} FILE)"
            ) from error
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC):
            raise UserError(
                f"{origin}: the cache of Hugging Face's data sets cannot be written ({one_line(cause)[:160]}); set "
                "HF_HOME to a folder that can be"
            ) from error
        raise files.unreadable(origin, cause) from error


def load_verified(load: Callable[..., Any]) -> Any:
    """Returns `load()`, a `datasets.Dataset`, after comparing its cache files with their digests.

    If a file is damaged, `load(download_mode="force_redownload")` makes them again.
    """
    from datasets.exceptions import DatasetsError
    from pyarrow.lib import ArrowException

    try:
        rows = load()
    except (DatasetsError, ConnectionError):  # the data themselves are faulty, or not here: nothing to repair
        raise
    except (OSError, ValueError, TypeError, KeyError, ArrowException):  # a file in the cache is damaged
        return load(download_mode="force_redownload")
    try:
        fault = _find_fault(rows)
    except OSError:  # the digests cannot be read or written, but `datasets` has just read the data
        return rows
    if fault is not None:
        if distributed.is_main_process():
            print(f"the cached data in {fault} and is made again", file=sys.stderr)
        del rows
        rows = load(download_mode="force_redownload")
        _find_fault(rows)
    return rows


def _find_fault(rows: Any) -> str | None:
    """What is wrong with the cache files of rows, or None; if no digests are stored yet, they are written."""
    files = [Path(file["filename"]) for file in rows.cache_files]
    if not files:
        return None
    digests = files[0].with_name(f"{hashlib.sha256(' '.join(path.name for path in files).encode()).hexdigest()}.sums")
    info = [path for path in [digests.with_name("dataset_info.json")] if path.is_file()]  # names and types of the columns
    sums = {path.name: checksums.of_file(path) for path in [*files, *info]}
    try:
        stored = checksums.read_sealed(digests)
    except FileNotFoundError:
        # `datasets` moves a folder into place when it is finished, so files without digests are complete.
        checksums.write_sealed(digests, sums)
        return None
    except checksums.Damaged as error:
        digests.unlink()
        return f"{digests.parent} is damaged ({error})"
    changed = [name for name, digest in sums.items() if stored.get(name) != digest]
    return f"{digests.parent} is damaged ({changed[0]} has other content than was written)" if changed else None
