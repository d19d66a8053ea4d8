"""Rows in memory, written to a file, so that everything reads, records and checks them as it does any other file."""

import hashlib
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from jaxft.core.errors import UserError, one_line
from jaxft.core.output import writing
from jaxft.core.paths import cache_dir

KINDS = "a list of dicts, a dict of lists, a pandas DataFrame, a datasets.Dataset or a pyarrow Table"


def stored_rows(rows: Any, option: str) -> str:
    """The path of a parquet file of the cache folder that holds these rows; its name is the SHA-256 of their content.

    Args:
      rows: a list of dicts, a dict of lists, a pandas DataFrame, a `datasets.Dataset` or a pyarrow Table.
      option: what the rows are given for, for messages.

    Raises:
      UserError: if the rows are something else, are none, or do not have the same columns and types.
    """
    table = as_table(rows, option)
    path = cache_dir() / "data" / f"{_digest(table)}.parquet"
    if not path.is_file():
        write(table, path)
    return str(path.absolute())


def write(table: Any, path: Path) -> None:
    """Write a pyarrow Table as parquet; the file appears when it is complete.

    Raises:
      UserError: if it cannot be written.
    """
    import pyarrow.parquet as pq

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    with writing(str(path)) as file:
        pq.write_table(table, file)


def as_table(rows: Any, option: str) -> Any:
    """Rows as a pyarrow Table; see `stored_rows`."""
    import pyarrow as pa

    try:
        kind = type(rows).__name__
        if isinstance(rows, pa.Table):
            table = rows
        elif isinstance(rows, Mapping):
            table = pa.Table.from_pydict({name: _column(name, values, option) for name, values in rows.items()})
        elif isinstance(rows, Sequence) and not isinstance(rows, str) and all(isinstance(row, Mapping) for row in rows):
            _check_columns(rows, option)
            table = pa.Table.from_pylist(rows)
        elif kind == "DataFrame":
            table = pa.Table.from_pandas(rows, preserve_index=False)
        elif kind == "Dataset":
            dataset: Any = rows
            table = pa.table(dataset.with_format("arrow")[:]).cast(dataset.features.arrow_schema)  # with names of labels
        else:
            items = rows if isinstance(rows, (list, tuple)) else ()
            others = [f" with a {type(item).__name__}" for item in items if not isinstance(item, Mapping)]
            raise UserError(f"{option} is a {kind}{''.join(others[:1])}: must be {KINDS}")
    except (pa.ArrowException, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{option}: the rows do not make a table: {one_line(error)[:200]}") from error
    if not table.num_rows:
        raise UserError(f"{option}: there are no rows")
    return table


def _column(name: Any, values: Any, option: str) -> list[Any]:
    """The values of a column; a text, whose characters would be rows, and what has no order are refused."""
    if isinstance(values, (str, bytes, Mapping, Set)):
        raise UserError(f'{option}: column "{name}" is a {type(values).__name__}: must be a list with a value for each row')
    return list(values)


def _check_columns(rows: Sequence[Mapping[str, Any]], option: str) -> None:
    """Refuse rows that lack a column of the others; the message names the first."""
    columns = dict.fromkeys(name for row in rows for name in row)
    for number, row in enumerate(rows, 1):
        if missing := [name for name in columns if name not in row]:
            raise UserError(f'{option}: row {number} has no column "{missing[0]}", which others have; give it as None')


def _digest(table: Any) -> str:
    """SHA-256 of the columns: their names, types and values, and what `datasets` notes about them."""
    import pyarrow as pa

    digest = hashlib.sha256((table.schema.metadata or {}).get(b"huggingface", b""))
    bare = table.replace_schema_metadata(None).combine_chunks()
    with pa.PythonFile(_Hashed(digest), mode="w") as sink, pa.ipc.new_stream(sink, bare.schema) as writer:
        writer.write_table(bare)
    return digest.hexdigest()


class _Hashed:
    """A file that only updates a digest."""

    closed = False

    def __init__(self, digest: Any) -> None:
        self._digest = digest
        self._written = 0

    def write(self, data: Any) -> int:
        self._digest.update(data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
