"""Reads csv, tsv and txt files as Arrow tables, in chunks."""

import ast
import csv
import io
import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.errors import UserError, some
from jaxft.data.reading.files import file_format, open_bytes

ROWS = 10_000  # rows per table


def csv_header(file: Path, config: DataConfig) -> list[str]:
    """The names of the columns. A name may be empty (pandas writes its index so) or occur twice."""
    with closing(_records(file, config)) as records:
        return config.columns or next(records, (0, []))[1]


def csv_tables(file: Path, config: DataConfig, columns: Sequence[str]) -> Iterator[Any]:
    """The rows of a csv or tsv file as columns of text without nulls; a field that a row lacks is empty.

    Nothing is guessed: "NA" and "null" are text, and the label 07 stays 07. Empty lines are skipped. The file may be
    compressed. Only `columns` are returned and checked.

    Raises:
      UserError: for a column that occurs twice, more fields than columns, or a quote that is never closed.
    """
    import pyarrow as pa

    names = csv_header(file, config)
    for column in columns:
        if names.count(column) > 1:
            raise UserError(f'{file}: the column "{column}" occurs twice ({some(names)})')
    indices = [names.index(column) for column in columns]
    with closing(_records(file, config)) as records:
        # A first line with the names is a header, also if it repeats `config.columns`.
        rows = enumerate(((line, row) for i, (line, row) in enumerate(records) if i or row != names), 1)
        while chunk := list(itertools.islice(rows, ROWS)):
            for number, (line, row) in chunk:
                if any(field.strip() for field in row[len(names) :]):  # empty fields come from a separator at the line's end
                    fault = f"row {number} (line {line}) has {len(row)} fields, but there are {len(names)} columns"
                    raise UserError(f"{file}: {fault} ({some(names)}){separator_advice(names)}")
            fields = ([row[i] if i < len(row) else "" for _, (_, row) in chunk] for i in indices)
            yield pa.table([pa.array(x, pa.string()) for x in fields], names=list(columns))


def separator_advice(names: Sequence[str]) -> str:
    """What to do about a header line that seems to be separated by something else than its format says; or nothing."""
    if len(names) == 1:
        if "\t" in names[0]:
            return "; its columns are separated by tabs: rename it to .tsv"
        for separator in ";|":
            if separator in names[0]:
                reading = f"pandas.read_csv(FILE, sep={separator!r}).to_csv(NEW_FILE, index=False)"
                return (
                    f'; its columns seem to be separated by "{separator}", but csv files have commas: {reading} writes them'
                )
    return ""


def text_tables(file: Path, column: str) -> Iterator[Any]:
    """The lines of a txt file as a column named `column`."""
    import pyarrow as pa

    with open_bytes(file) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig") as lines:
        while chunk := [line.removesuffix("\n") for line in itertools.islice(lines, ROWS)]:
            yield pa.table({column: pa.array(chunk, pa.string())})


def parse_literal(text: str, otherwise: Any) -> Any:
    """The Python literal that a cell of a csv file contains, such as `['O', 'B-x']`; `otherwise` for other text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return otherwise


def _records(file: Path, config: DataConfig) -> Generator[tuple[int, list[str]]]:
    """(number of its last line, fields) of every record; empty lines are skipped."""
    delimiter = "\t" if file_format(file) == ".tsv" else ","
    quoted = config.quotes == "standard" or (config.quotes == "auto" and delimiter == ",")
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    csv.field_size_limit(2**31 - 1)  # the default limit is 128 KiB
    end = "\0end"
    with open_bytes(file) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as lines:
        reader = csv.reader(itertools.chain(lines, ["\n", end]), delimiter=delimiter, quoting=quoting)
        first_line = 1
        try:
            for record in reader:
                if record == [end]:
                    return
                if record and record[-1].endswith(end):
                    raise UserError(f"{file}: cannot be read: a quote that line {first_line} opens is never closed")
                if record:
                    yield reader.line_num, record
                first_line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{file}: cannot be read: line {reader.line_num}: {error}") from error
