"""Writes rows to files that a run reads again."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxft.config.data import SPLITS, DataConfig
from jaxft.core.errors import UserError
from jaxft.core.output import check_output, writing
from jaxft.data.reading import files

KINDS = (".jsonl", ".parquet")


def check_tables(output: str, others: str = " or -") -> None:
    """Refuse, before the work begins, an output that `write_tables` could not write; `others` names what else is right.

    Raises:
      UserError: for another kind of file, or one that cannot be written.
    """
    check_output(output)
    if output != "-" and not output.endswith(KINDS):
        raise UserError(f"--output {output}: give a file that ends in {' or '.join(KINDS)}{others}")


def refuse_inputs(config: DataConfig, outputs: list[str | None]) -> None:
    """Refuse to overwrite the data of a run."""
    if config.dataset:
        return
    given = [name for split in SPLITS for name in files.names(getattr(config, split))]  # URLs are read from copies
    read = {path.resolve() for split in SPLITS if getattr(config, split) for path in files.files_of(config, split)}
    for name in filter(None, outputs):
        if Path(name).expanduser().resolve() in read or name in given:
            raise UserError(f"{name}: is an input file; give another name")


def write_tables(output: str, chunks: Iterator[Any]) -> int:
    """Write Arrow tables of one schema as JSON lines, or as parquet if the name says so; return the number of rows."""
    return _write_parquet(output, chunks) if output.endswith(".parquet") else _write_lines(output, chunks)


def _write_lines(output: str, chunks: Iterator[Any]) -> int:
    written = 0
    with writing(output) as file:
        for table in chunks:
            for row in named_rows(table):
                file.write(f"{json.dumps(row, ensure_ascii=False, default=_as_text)}\n".encode())
                written += 1
    return written


def named_rows(table: Any) -> Iterator[Mapping[str, Any]]:
    """The rows of a table, with the names of labels in place of their numbers."""
    import datasets

    features = datasets.Features.from_arrow_schema(table.schema)
    for row in table.to_pylist():
        yield {name: _name(value, features[name]) for name, value in row.items()}


def _name(value: Any, feature: Any) -> Any:
    if isinstance(value, list):
        return [_name(x, getattr(feature, "feature", feature)) for x in value]
    names = getattr(feature, "names", None)
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def _as_text(value: Any) -> str:
    """A date or time in ISO format; any other value that json has no notation for as Python prints it."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _write_parquet(output: str, chunks: Iterator[Any]) -> int:
    import pyarrow.parquet as pq

    written = 0
    with writing(output) as file:
        first = next(chunks)
        with pq.ParquetWriter(file, first.schema) as writer:
            for table in (first, *chunks):
                writer.write_table(table)
                written += len(table)
    return written
