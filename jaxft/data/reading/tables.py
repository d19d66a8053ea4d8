"""Files of rows as one Arrow table of the columns that are asked for; what is large lies on disk and is mapped."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.core.progress import Progress
from jaxft.core.utf8 import check_utf8
from jaxft.data.reading.delimited import csv_header, csv_tables, text_tables
from jaxft.data.reading.files import COMPRESSED, kind, open_bytes, unreadable
from jaxft.data.reading.json_rows import JsonTables
from jaxft.data.reading.spool import joined

KINDS = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt", ".arrow")
_BINARY = (".parquet", ".arrow")


def read_table(
    files: Sequence[Path], config: DataConfig, columns: Sequence[str], *, lists: bool, kinds: Mapping[str, type]
) -> tuple[Any, list[str], list[tuple[str, int]]]:
    """The rows of files, one file after the other.

    Args:
      files: of any of KINDS; those of text may be compressed.
      config: how to read csv and tsv files; with `empty_texts` null, odd values are null.
      columns: names; a column that one file lacks is null in its rows.
      lists: whether a row's values are lists (see `json_rows.rows_of`).
      kinds: columns of texts, or of lists of them (see `json_rows.as_array`).

    Returns:
      (a table of those of `columns` that are there, the names of all columns, the files and how many rows each has).

    Raises:
      UserError: when a file is not what its name says, naming the place.
    """
    names: dict[str, None] = {}
    counts: list[tuple[str, int]] = []

    def tables() -> Iterator[Any]:
        progress, rows = Progress("reading", None), 0
        for file in files:
            before = rows
            for table in _tables(file, config, columns, names, lists=lists, kinds=kinds):
                rows += len(table)
                progress.at(rows)
                yield table
            counts.append((str(file), rows - before))

    odd_is_null = config.empty_texts == "null"
    found = joined(tables(), odd_is_null=odd_is_null, kinds=kinds, where=", ".join(map(str, files)))
    if found is not None:
        found = found.select([name for name in found.column_names if name in names])
    return found, list(names), counts


def _tables(
    file: Path,
    config: DataConfig,
    columns: Sequence[str],
    names: dict[str, None],
    *,
    lists: bool,
    kinds: Mapping[str, type],
) -> Iterator[Any]:
    """The rows of one file; its columns are added to `names`."""
    own = kind(file)
    if own not in KINDS or (own in _BINARY and file.suffix.lower() in COMPRESSED):
        raise UserError(f'{file}: unknown kind of file "{file.suffix}"; jaxft reads {", ".join(KINDS)}')
    try:
        if own in (".json", ".jsonl"):
            source = JsonTables(file, lists=lists)
            yield from source.tables(columns, odd_is_null=config.empty_texts == "null", kinds=kinds)
            names |= source.names
        elif own == ".txt":
            names |= {config.text: None}  # it has one column, whatever the others call theirs
            yield from text_tables(file, config.text)
        elif own in _BINARY:
            yield from _arrow_tables(file, columns, names)
        else:
            header = csv_header(file, config)
            names |= dict.fromkeys(header)
            yield from csv_tables(file, config, [column for column in columns if column in header])
    except UserError:
        raise
    except Exception as error:  # pandas and pyarrow have errors of many kinds
        if own not in _BINARY:
            _check_text(file)
        raise unreadable(file, error) from error


def _check_text(file: Path) -> None:
    try:
        check_utf8(open_bytes(file), str(file))
    except OSError as error:
        raise unreadable(file, error) from error


def _arrow_tables(file: Path, columns: Sequence[str], names: dict[str, None]) -> Iterator[Any]:
    """The rows of a parquet file, or of an Arrow file or stream."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if kind(file) == ".parquet":
        parquet = pq.ParquetFile(file, memory_map=True)
        schema = parquet.schema_arrow
        wanted = [name for name in schema.names if name in columns]
        names |= dict.fromkeys(schema.names)
        for batch in parquet.iter_batches(columns=wanted):
            yield whole(pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata))
        return
    source = pa.memory_map(str(file))
    try:
        table = pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(source).read_all()
    names |= dict.fromkeys(table.column_names)
    yield whole(table.select([name for name in table.column_names if name in columns]))


def whole(table: Any) -> Any:
    """The table, all of which has been looked at: Arrow believes a damaged file, and would read beyond its end.

    Raises:
      pyarrow.ArrowInvalid: naming the column that is not whole.
    """
    table.validate(full=True)
    return table
