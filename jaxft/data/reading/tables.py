"""Reads the requested columns of files as one Arrow table; large tables are memory-mapped from disk."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.core.progress import Progress
from jaxft.core.utf8 import check_utf8
from jaxft.data.reading.delimited import csv_header, csv_tables, text_tables
from jaxft.data.reading.files import COMPRESSED, file_format, open_bytes, unreadable
from jaxft.data.reading.json_rows import Request, json_tables
from jaxft.data.reading.spool import concatenate

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt", ".arrow")
_BINARY = (".parquet", ".arrow")


def read_table(files: Sequence[Path], config: DataConfig, request: Request) -> tuple[Any, list[str], list[tuple[str, int]]]:
    """Reads the rows of files of any of FORMATS, one file after the other; text files may be compressed.

    Returns:
      (a table of the requested columns that exist, the names of all columns, the name and number of rows of each file).

    Raises:
      UserError: if a file is not in the format that its name implies, naming the line or row.
    """
    names: dict[str, None] = {}
    counts: list[tuple[str, int]] = []

    def tables() -> Iterator[Any]:
        progress, rows = Progress("reading", None), 0
        for file in files:
            before = rows
            for table in _tables(file, config, request, names):
                rows += len(table)
                progress.at(rows)
                yield table
            counts.append((str(file), rows - before))

    table = concatenate(tables(), request, ", ".join(map(str, files)))
    if table is not None:
        table = table.select([name for name in table.column_names if name in names])
    return table, list(names), counts


def _tables(file: Path, config: DataConfig, request: Request, names: dict[str, None]) -> Iterator[Any]:
    """The rows of one file; its columns are added to `names`."""
    file_kind = file_format(file)
    if file_kind not in FORMATS or (file_kind in _BINARY and file.suffix.lower() in COMPRESSED):
        raise UserError(f'{file}: unknown kind of file "{file.suffix}"; jaxft reads {", ".join(FORMATS)}')
    try:
        if file_kind in (".json", ".jsonl"):
            yield from json_tables(file, request, names)
        elif file_kind == ".txt":
            names |= {config.text: None}  # a txt file has one column, which has no name of its own
            yield from text_tables(file, config.text)
        elif file_kind in _BINARY:
            for table in _arrow_tables(file, request.columns, names):
                table.validate(full=True)  # Arrow trusts a damaged file, and would read beyond its end
                yield table
        else:
            header = csv_header(file, config)
            names |= dict.fromkeys(header)
            yield from csv_tables(file, config, [column for column in request.columns if column in header])
    except UserError:
        raise
    except Exception as error:  # pyarrow raises errors of many kinds
        if file_kind not in _BINARY:
            try:
                check_utf8(open_bytes(file), str(file))
            except OSError as fault:
                raise unreadable(file, fault) from fault
        raise unreadable(file, error) from error


def _arrow_tables(file: Path, columns: Sequence[str], names: dict[str, None]) -> Iterator[Any]:
    """The rows of a parquet file, or of an Arrow file or stream."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file_format(file) == ".parquet":
        parquet = pq.ParquetFile(file, memory_map=True)
        schema = parquet.schema_arrow
        wanted = [name for name in schema.names if name in columns]
        names |= dict.fromkeys(schema.names)
        for batch in parquet.iter_batches(columns=wanted):
            yield pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata)
        return
    source = pa.memory_map(str(file))
    try:
        table = pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(source).read_all()
    names |= dict.fromkeys(table.column_names)
    yield table.select([name for name in table.column_names if name in columns])
