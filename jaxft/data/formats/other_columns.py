"""The columns of a file that a task does not read, such as an id or a date: they stay beside the cleaned ones."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.formats.span_rows import KNOWN
from jaxft.data.reading.row_numbers import select_rows
from jaxft.data.reading.sources import column_names, read_rows


def with_other_columns(
    tables: Iterator[Any], numbers: np.ndarray, config: DataConfig, split: str, *, tagged: bool
) -> Iterator[Any]:
    """Arrow tables of cleaned rows with the other columns of their file, all in the order of the file.

    A value that a row of a json file lacks is null. Columns that cannot be read, because their rows hold different kinds of
    values, are left out with a line on standard error.

    Args:
      tables: the cleaned columns, at least one table.
      numbers: the row of the file of each row, from 1, counted through all files.
      config, split: where they were read from.
      tagged: whether the rows are tagged sentences. Columns of lists and objects are then left out: words may have been
        removed, and their places may have changed.
    """
    import datasets
    import pyarrow as pa

    config = replace(config, columns=None) if tagged else config
    first = next(tables)
    own = [*first.column_names, *(KNOWN if tagged else ())]
    names = column_names(config, split)
    others = _read([name for name in names if name not in own], config, split, tagged=tagged)
    if others is not None and tagged:
        flat = [name for name, kind in others.features.items() if isinstance(kind, datasets.Value | datasets.ClassLabel)]
        others = others.select_columns(flat)
    if others is None or not others.column_names:
        yield from chain([first], tables)
        return
    features, start = others.features, 0
    others = select_rows(others, numbers - 1).with_format("arrow")
    for table in chain([first], tables):
        more = others[start : start + len(table)]
        start += len(table)
        found = {name: part.column(name) for part in (table, more) for name in part.column_names}
        order = [*(name for name in names if name in found), *(name for name in found if name not in names)]
        kinds = datasets.Features.from_arrow_schema(table.schema) | features
        metadata = datasets.Features({name: kinds[name] for name in order}).arrow_schema.metadata
        yield pa.table({name: found[name] for name in order}).replace_schema_metadata(metadata)


def _read(names: Sequence[str], config: DataConfig, split: str, *, tagged: bool) -> Any:
    """The columns as a `datasets.Dataset`; None if there are none."""
    if not names:
        return None
    try:
        return read_rows(config, split, needed=names, lists=tagged)
    except UserError as error:
        print(f"the columns {', '.join(names)} are left out: {error}", file=sys.stderr)
        return None
