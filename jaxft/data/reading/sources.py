"""Reads rows from files, saved Arrow directories and hub data sets, with errors that name the file and row."""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.errors import UserError, nearest, one_line, some
from jaxft.data.reading import files
from jaxft.data.reading.datasets_cache import load_verified
from jaxft.data.reading.folders import read_folders
from jaxft.data.reading.tables import read_table, validated

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
      config: the files or hub data set; columns of csv and tsv files are read as text without nulls.
      split: train, validation or test: a field of `config`.
      needed: columns that must exist. Columns that are neither needed nor wanted are not checked.
      wanted: columns that are read if they exist.
      lists: the values of a row are lists (see `json_rows.rows_of`).
      kinds: columns of texts (str) or lists of texts (list); in other columns, numbers among texts become text.

    Raises:
      UserError: if a file is absent, empty, not in the format that its name implies, or lacks a column.
    """
    columns = list(dict.fromkeys([*needed, *wanted]))
    rows, names = _open(config, split, columns, lists=lists, kinds=kinds)
    where = files.origin(config, split)
    for column in needed:
        if names and column not in names:
            others = [name for name in names if name != config.label]  # do not suggest the label column
            options = [f"; data.{x.name} names it" for x in fields(config) if getattr(config, x.name) == column]
            advice = nearest(column, others) or "".join(options[:1])
            raise UserError(f'{where}: no column "{column}" (columns: {some(names, 50)}){advice}')
    if rows is None or len(rows) == 0:
        raise UserError(f"{where}: no rows")
    rows = rows.select_columns([c for c in rows.column_names if c in columns])
    return _validated(rows, where) if rows.cache_files else rows


def _validated(rows: Any, where: str) -> Any:
    """Validates rows of memory-mapped Arrow files (see `tables.validated`)."""
    import pyarrow as pa

    try:
        validated(rows.data.table)
    except pa.ArrowInvalid as error:
        raise files.unreadable(where, error) from error
    return rows


def column_names(config: DataConfig, split: str) -> list[str]:
    """The names of a split's columns, in order, without empty names."""
    return [name for name in _open(config, split, [], lists=False)[1] if name]


def _open(
    config: DataConfig, split: str, columns: Sequence[str], *, lists: bool, kinds: Mapping[str, type] | None = None
) -> tuple[Any, list[str]]:
    """(rows with at least those of `columns` that exist, names of all columns); the rows are None if there are none."""
    if config.dataset:
        rows = _hub_split(config, getattr(config, split))
        return rows, list(rows.column_names)
    paths = files.files_of(config, split)
    if any(path.is_dir() for path in paths):
        if len(paths) > 1:
            raise UserError(f"{files.origin(config, split)}: a directory must be the only path (data.{split})")
        rows = _directory(paths[0], f"data.{split}")
        return rows, list(rows.column_names)
    import datasets

    from jaxft.data.reading.row_numbers import with_files

    kinds = kinds or {}
    table, names, counts = read_table(paths, config, columns, lists=lists, kinds=kinds)
    if table is None or not table.num_columns:
        return None, names
    kind_names = {column: kind.__name__ for column, kind in kinds.items()}
    digest = files.fingerprint(
        paths, [list(columns), lists, kind_names, config.columns, config.quotes, config.empty_texts == "null"]
    )
    return datasets.Dataset(table, info=with_files(counts), fingerprint=digest), names


def _directory(directory: Path, field: str) -> Any:
    if (directory / _SAVED).is_file():
        return _saved(directory)
    if (directory / _SAVED_SPLITS).is_file():
        raise UserError(
            f"{directory}: is a saved data set with splits; give it as data.dataset, and {field} the name of a split"
        )
    rows = read_folders(directory)
    return files.existing_file(str(directory), field) if rows is None else rows


def _saved(directory: Path) -> Any:
    """The Dataset or DatasetDict in a directory that `save_to_disk` has written."""
    import datasets

    try:
        return datasets.load_from_disk(str(directory)).with_format(None)  # all columns, as plain values
    except Exception as error:  # of many kinds, as in _load
        raise files.unreadable(directory, error) from error


def _hub_split(config: DataConfig, split: str | list[str]) -> Any:
    name = str(config.dataset)
    if not isinstance(split, str):
        raise UserError(f"{name}: a list of splits is not read ({', '.join(split)}); name one")
    directory = Path(name).expanduser()
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
    return _load(f"{name}:{split}", name, name=config.dataset_config, split=split)


def _load(origin: str, *args: Any, **options: Any) -> Any:
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)
    try:
        return load_verified(lambda **more: datasets.load_dataset(*args, **options, **more))
    except Exception as error:  # builders wrap errors of pandas, pyarrow and the hub in their own
        cause = error.__cause__ or error
        if "corresponds to no data" in str(cause):
            raise UserError(f"{origin}: no rows") from error
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC):
            raise UserError(
                f"{origin}: the cache of Hugging Face's data sets cannot be written ({one_line(cause)[:160]}); set "
                "HF_HOME to a folder that can be"
            ) from error
        raise files.unreadable(origin, cause) from error


def revision(config: DataConfig, split: str) -> str:
    """An identifier of the content of a hub data set's split: the fingerprint of `datasets`, made from the revision."""
    return str(_open(config, split, [], lists=False)[0]._fingerprint)
