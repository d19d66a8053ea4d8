"""csv, tsv and txt files as Arrow tables, some rows at a time."""

import csv
import io
import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.errors import UserError, some
from jaxft.data.reading.files import kind, open_bytes

ROWS = 10_000  # of a table


def csv_header(file: Path, config: DataConfig) -> list[str]:
    """The names of the columns; perhaps empty ones (pandas writes its index so), and perhaps one twice."""
    with closing(_records(file, config)) as records:
        return config.columns or next(records, (0, []))[1]


def csv_tables(file: Path, config: DataConfig, columns: Sequence[str]) -> Iterator[Any]:
    """The rows of a csv or tsv file: columns of text in which nothing means "missing" (a field that a row lacks is empty).

    Nothing is guessed: "NA" and "null" are words, and a label is 07 where the file says 07. Lines without a character are
    no rows.

    Args:
      file: perhaps compressed.
      config: its `columns` and `quotes`; a first line that holds these very names is no row.
      columns: which to give; other columns do not matter.

    Raises:
      UserError: for a column that stands twice, more fields than columns, or a quote that is never closed.
    """
    import pyarrow as pa

    names = csv_header(file, config)
    for column in columns:
        if names.count(column) > 1:
            raise UserError(f'{file}: the column "{column}" stands twice ({some(names)})')
    places = [names.index(column) for column in columns]
    with closing(_records(file, config)) as records:
        first = list(itertools.islice(records, 1))
        is_header = any(fields == names for _, fields in first)  # also one that says what `columns` do
        rows = itertools.chain([] if is_header else first, records)
        for start in itertools.count(0, ROWS):
            chunk = list(itertools.islice(rows, ROWS))
            if not chunk:
                return
            for number, (line, row) in enumerate(chunk, start + 1):
                if any(field.strip() for field in row[len(names) :]):  # else a separator ends the line
                    raise UserError(
                        f"{file}: row {number} (line {line}) has {len(row)} fields, but there are {len(names)} columns "
                        f"({some(names)})"
                    )
            fields = ([row[i] if i < len(row) else "" for _, row in chunk] for i in places)
            yield pa.table([pa.array(x, pa.string()) for x in fields], names=list(columns))


def text_tables(file: Path, column: str) -> Iterator[Any]:
    """The lines of a txt file as a column of this name."""
    import pyarrow as pa

    with open_bytes(file) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig") as lines:
        while chunk := [line.removesuffix("\n") for line in itertools.islice(lines, ROWS)]:
            yield pa.table({column: pa.array(chunk, pa.string())})


def _records(file: Path, config: DataConfig) -> Generator[tuple[int, list[str]]]:
    """(last line, fields) of every record; lines of no character are none."""
    tabs = kind(file) == ".tsv"
    quoted = config.quotes == "standard" or (config.quotes == "auto" and not tabs)
    csv.field_size_limit(2**31 - 1)  # a text may be longer than 128 KiB
    end = "\0end"
    with open_bytes(file) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as lines:
        reader = csv.reader(
            itertools.chain(lines, ["\n", end]),
            delimiter="\t" if tabs else ",",
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        )
        begins = 1
        try:
            for record in reader:
                if record == [end]:
                    return
                if record and record[-1].endswith(end):
                    raise UserError(f"{file}: cannot be read: a quote that line {begins} opens is never closed")
                if record:
                    yield reader.line_num, record
                begins = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{file}: cannot be read: line {reader.line_num}: {error}") from error
