"""Cleans the text columns of a data set in chunks, so that memory does not hold all texts at once."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.progress import in_steps
from jaxft.data.cleaning.cleaner import Cleaner
from jaxft.data.reading.columns import CHUNK
from jaxft.data.reading.spool import spooled, unload


def clean_columns(rows: Any, columns: Sequence[str], config: DataConfig, origin: str, *, by_line: bool = False) -> Any:
    """A `datasets.Dataset` whose columns of texts, or of lists of texts, are cleaned as `data.clean` says.

    Args:
      rows: the data set as it was read. Other columns stay as they are, and so do values that are not texts.
      columns: names of the columns.
      config: its `clean`.
      origin: the file, for the report of the progress.
      by_line: whether each line of a text is cleaned on its own, and lines, and texts in lists of texts, that become empty
        are left out.
    """
    clean = Cleaner(config.clean)
    if not clean:
        return rows
    import datasets
    import pyarrow as pa

    one = _by_line(clean) if by_line else lambda text: clean(text).text

    def cleaned(value: Any) -> Any:
        if isinstance(value, str):
            return one(value)
        if isinstance(value, list):
            texts = [cleaned(x) for x in value]
            return [x for x in texts if x or not isinstance(x, str)] if by_line else texts
        return value

    def tables() -> Iterator[Any]:
        source = rows.with_format("arrow")
        for start in in_steps(f"cleaning {origin}", len(rows), CHUNK):
            table = source[start : start + CHUNK]
            for column in columns:
                at = table.column_names.index(column)
                values = [cleaned(x) for x in table.column(at).to_pylist()]
                table = table.set_column(at, table.field(at), pa.array(values, table.field(at).type))
            yield table.replace_schema_metadata()
            unload()

    table = pa.concat_tables(spooled(tables()))
    settings = repr((list(columns), by_line, dataclasses.asdict(config.clean)))
    digest = hashlib.sha256(f"{rows._fingerprint}{settings}".encode()).hexdigest()[:32]
    return datasets.Dataset(table, info=rows.info.copy(), fingerprint=digest)


def _by_line(clean: Cleaner) -> Callable[[str], str]:
    return lambda text: "\n".join(x for line in text.splitlines() if (x := clean(line).text))
