"""Rows of text files, Arrow and hub data sets, read by `datasets`, with errors that name file and row."""

import csv
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxft import checksums
from jaxft.config import DataConfig
from jaxft.data.arrow import intact
from jaxft.data.folders import read_folders
from jaxft.errors import UserError, nearest, one_line
from jaxft.utf8 import check_utf8

BUILDERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".txt": "text",
    ".arrow": "arrow",
}


def read_rows(config: DataConfig, split: str, *, needed: Sequence[str], wanted: Sequence[str] = ()) -> Any:
    """One split as a `datasets.Dataset` of the needed columns.

    Args:
      config: which files or hub data set; csv and tsv columns are read as text, and nothing in them means "missing".
      split: train, validation or test: a field of `config`.
      needed: columns that must be there.
      wanted: columns that are read where they are there.

    Raises:
      UserError: when the file is absent, empty, not readable as what its name says, or lacks a column.
    """
    where = getattr(config, split)
    rows = _open(config, split)
    origin = f"{config.dataset}:{where}" if config.dataset else where
    for column in needed:
        if column not in rows.column_names:
            raise UserError(
                f'{origin}: no column "{column}" (columns: {", ".join(rows.column_names)})'
                f"{nearest(column, rows.column_names)}"
            )
    if len(rows) == 0:
        raise UserError(f"{origin}: no rows")
    return rows.select_columns([c for c in rows.column_names if c in needed or c in wanted])


def _open(config: DataConfig, split: str) -> Any:
    where = getattr(config, split)
    return _hub_split(config, where) if config.dataset else _file(config, where, f"data.{split}")


def existing_file(path: str, field: str) -> Path:
    """The file that `field` of the config names.

    Raises:
      UserError: when it is absent, a directory, empty or not readable.
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise UserError(f"{path}: no such file ({field})")
    if file.is_dir():
        raise UserError(
            f"{path}: is a directory without a folder of .txt files for each label; {field} takes a file or such a "
            "directory (use data.dataset for a saved Arrow directory)"
        )
    if file.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty ({field})")
    if not os.access(file, os.R_OK):
        raise UserError(f"{path}: permission denied ({field})")
    return file


def _file(config: DataConfig, path: str, field: str) -> Any:
    if Path(path).expanduser().is_dir() and (rows := read_folders(Path(path).expanduser())) is not None:
        return rows
    file = existing_file(path, field)
    builder = BUILDERS.get(file.suffix.lower())
    if builder is None:
        raise UserError(f'{path}: unknown kind of file "{file.suffix}" ({field}); jaxft reads {", ".join(BUILDERS)}')
    options: dict[str, Any] = {}
    if builder == "json":  # pyarrow would only notice when a row is used
        check_utf8(file, path)
    if builder == "csv":
        options = _csv_options(config, file)
    return _load(path, builder, data_files=str(file), split="train", **options)


def _csv_options(config: DataConfig, file: Path) -> dict[str, Any]:
    import datasets

    tabs = file.suffix.lower() == ".tsv"
    options: dict[str, Any] = {"sep": "\t" if tabs else ","}
    options["quoting"] = csv.QUOTE_NONE if config.quotes == "none" or (config.quotes == "auto" and tabs) else 0
    if config.columns:
        names = config.columns
        options |= {"names": names, "header": None}
    else:
        names = next(iter(_records(file, options, 1)), [])
    if len(set(names)) < len(names):
        raise UserError(f"{file}: a column name stands twice ({', '.join(names)})")
    skip = 0 if config.columns else 1
    fields = max(map(len, _records(file, options, skip + 1)[skip:]), default=0)
    if fields > len(names):  # pandas would take the first fields for an index and shift the columns
        raise UserError(f"{file}: row 1 has {fields} fields, but there are {len(names)} columns ({', '.join(names)})")
    # As text, and with nothing read as missing: "NA" and "null" are words, and a label is 07 where the file says 07.
    text = datasets.Features({name: datasets.Value("string") for name in names})
    return options | {"features": text, "keep_default_na": False, "na_filter": False}


def _records(file: Path, options: dict[str, Any], count: int) -> list[list[str]]:
    """The first few records of a csv or tsv file, blank lines left out as pandas does."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            records = csv.reader(lines, delimiter=options["sep"], quoting=options["quoting"])
            return list(itertools.islice((record for record in records if record), count))
    except UnicodeDecodeError:
        check_utf8(file, str(file))
        raise
    except csv.Error as error:
        raise UserError(f"{file}: the first lines cannot be read: {error}") from error


def _hub_split(config: DataConfig, split: str) -> Any:
    import datasets

    if Path(config.dataset or "").is_dir() and (Path(config.dataset or "") / "dataset_dict.json").is_file():
        try:
            splits = datasets.load_from_disk(str(config.dataset))
        except Exception as error:  # as in _load
            raise UserError(f"{config.dataset}: cannot be read: {one_line(error)[:200]}") from error
        if split not in splits:
            raise UserError(f"{config.dataset}: no split {split} (splits: {', '.join(map(str, splits))})")
        return splits[split]
    return _load(f"{config.dataset}:{split}", config.dataset or "", name=config.dataset_config, split=split)


def _load(origin: str, *args: Any, **options: Any) -> Any:
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)
    if "data_files" in options:  # `datasets` knows a file by name and time alone: it calls what it keeps by the content, too
        options["name"] = checksums.of_file(Path(options["data_files"]))
    try:
        return intact(lambda **more: datasets.load_dataset(*args, **options, **more))
    except Exception as error:  # builders wrap pandas, pyarrow and hub errors in kinds of their own
        path = options.get("data_files")
        if path and Path(path).suffix.lower() not in (".parquet", ".arrow"):
            check_utf8(path, origin)
        cause = error.__cause__ or error
        if "corresponds to no data" in str(cause):
            raise UserError(f"{origin}: no rows") from error
        raise UserError(f"{origin}: cannot be read: {type(cause).__name__}: {one_line(cause)[:200]}") from error


def column_names(config: DataConfig, split: str) -> list[str]:
    """The columns of a split, in their order."""
    return list(_open(config, split).column_names)


def revision(config: DataConfig, split: str) -> str:
    """Which content a split of a hub data set has: `datasets` names what it keeps by the hub's revision."""
    return str(_open(config, split)._fingerprint)
