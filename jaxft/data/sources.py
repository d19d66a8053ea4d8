"""Rows of text files, Arrow and hub data sets, read by `datasets`, with errors that name file and row."""

import codecs
import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxft.config import DataConfig
from jaxft.errors import UserError, nearest, one_line

BUILDERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".txt": "text",
    ".arrow": "arrow",
}


def read_rows(config: DataConfig, split: str, *, needed: Sequence[str], optional: Sequence[str] = ()) -> Any:
    """One split as a `datasets.Dataset` that has the needed columns.

    Args:
      config: which files or hub data set; csv and tsv columns are read as text, and nothing in them means "missing".
      split: train, validation or test: a field of `config`.
      needed: columns that must be there.
      optional: columns to keep when they are there.

    Raises:
      UserError: when the file is absent, empty, not readable as what its name says, or lacks a column.
    """
    where = getattr(config, split)
    rows = _hub_split(config, where) if config.dataset else _file(config, where, f"data.{split}")
    origin = f"{config.dataset}:{where}" if config.dataset else where
    for column in needed:
        if column not in rows.column_names:
            raise UserError(
                f'{origin}: no column "{column}" (columns: {", ".join(rows.column_names)})'
                f"{nearest(column, rows.column_names)}"
            )
    if len(rows) == 0:
        raise UserError(f"{origin}: no rows")
    return rows.select_columns([c for c in rows.column_names if c in (*needed, *optional)])


def _file(config: DataConfig, path: str, field: str) -> Any:
    file = Path(path).expanduser()
    if not file.exists():
        raise UserError(f"{path}: no such file ({field})")
    if file.is_dir():
        raise UserError(f"{path}: is a directory; {field} takes a file (use data.dataset for a saved Arrow directory)")
    if file.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty ({field})")
    if not os.access(file, os.R_OK):
        raise UserError(f"{path}: permission denied ({field})")
    builder = BUILDERS.get(file.suffix.lower())
    if builder is None:
        raise UserError(f'{path}: unknown kind of file "{file.suffix}" ({field}); jaxft reads {", ".join(BUILDERS)}')
    options: dict[str, Any] = {}
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
        names = _header(file, options["sep"], options["quoting"])
    # As text, and with nothing read as missing: "NA" and "null" are words, and a label is 07 where the file says 07.
    text = datasets.Features({name: datasets.Value("string") for name in names})
    return options | {"features": text, "keep_default_na": False, "na_filter": False}


def _header(file: Path, separator: str, quoting: int) -> list[str]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            names = next(csv.reader(lines, delimiter=separator, quoting=quoting), [])
    except (UnicodeDecodeError, csv.Error):
        line, byte = _first_bad_utf8(str(file)) or (1, 0)
        raise UserError(_not_utf8(str(file), line, byte)) from None
    if len(set(names)) < len(names):
        raise UserError(f"{file}: a column name stands twice in the header ({', '.join(names)})")
    return names


def _hub_split(config: DataConfig, split: str) -> Any:
    import datasets

    if Path(config.dataset or "").is_dir() and (Path(config.dataset or "") / "dataset_dict.json").is_file():
        try:
            return datasets.load_from_disk(str(config.dataset))[split]
        except KeyError as error:
            raise UserError(f"{config.dataset}: no split {split}") from error
    return _load(f"{config.dataset}:{split}", config.dataset or "", name=config.dataset_config, split=split)


def _load(origin: str, *args: Any, **options: Any) -> Any:
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)
    try:
        return datasets.load_dataset(*args, **options)
    except Exception as error:  # builders wrap pandas, pyarrow and hub errors in kinds of their own
        path = options.get("data_files")
        if path and (bad := _first_bad_utf8(path)):
            raise UserError(_not_utf8(origin, *bad)) from error
        cause = error.__cause__ or error
        raise UserError(f"{origin}: cannot be read: {type(cause).__name__}: {one_line(cause)[:200]}") from error


def _not_utf8(origin: str, line: int, byte: int) -> str:
    return f"{origin}: line {line} is not UTF-8 (byte {byte:#04x}); convert the file"


def _first_bad_utf8(path: str) -> tuple[int, int] | None:
    """(line, byte) of the first byte that is not UTF-8."""
    if Path(path).suffix.lower() in (".parquet", ".arrow"):
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                decoder.decode(line)
            except UnicodeDecodeError as error:
                return number, line[min(error.start, len(line) - 1)]
    return None
