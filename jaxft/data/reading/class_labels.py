"""The names of labels that some files declare (Hugging Face's ClassLabel), also for the rows of others beside them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from jaxft.core.errors import UserError, some
from jaxft.data.reading.label_spelling import finder

_FEATURES = b"huggingface"
_NONE = -1  # Hugging Face's sign for no label


def with_declared_labels(tables: Sequence[Any], where: str) -> tuple[list[Any], Any]:
    """The tables, with ids in all of them where some declare the names of a column's labels, and their common metadata.

    Args:
      tables: of Arrow; in those that declare nothing, labels are names or numbers (see `spelling.finder`).
      where: their files, for messages.

    Raises:
      UserError: when two declare other names, or a label is none of those that another declares.
    """
    import datasets

    own = [_declared(table) for table in tables]
    found: dict[str, Any] = {}
    for features in own:
        for name, feature in features.items():
            if found.setdefault(name, feature) != feature:
                raise UserError(f'{where}: the files declare different labels for the column "{name}"')
    if not found:
        return list(tables), tables[0].schema.metadata
    alike: list[Any] = []
    row = 0
    for table, features in zip(tables, own, strict=True):
        alike.append(table)
        for name in found.keys() & set(table.column_names) - features.keys():
            alike[-1] = _with_ids(alike[-1], name, found[name], f"{where}: row", row)
        row += len(table)
    return alike, datasets.Features(found).arrow_schema.metadata


def _declared(table: Any) -> dict[str, Any]:
    """The features of the columns whose labels have names."""
    import datasets

    if _FEATURES not in (table.schema.metadata or {}):
        return {}
    features = datasets.Features.from_arrow_schema(table.schema)
    return {name: feature for name, feature in features.items() if hasattr(_inner(feature), "names")}


def _inner(feature: Any) -> Any:
    return getattr(feature, "feature", feature)


def _with_ids(table: Any, column: str, feature: Any, where: str, before: int) -> Any:
    import datasets
    import pyarrow as pa

    names = _inner(feature).names
    find, ids = finder(names), []
    for number, value in enumerate(table[column].to_pylist(), before + 1):
        try:
            ids.append(_ids(value, find))
        except LookupError as error:
            raise UserError(
                f'{where} {number} has the label "{error.args[0]}" in column "{column}", which is none of the '
                f"{len(names)} that other files declare ({some(names)})"
            ) from None
    kind = datasets.Features({column: feature}).arrow_schema.field(0).type
    return table.set_column(table.column_names.index(column), column, pa.array(ids, kind))


def _ids(value: Any, find: Callable[[str], int | None]) -> Any:
    """The id of a label, of those in a list too; raises LookupError for what is no label."""
    if isinstance(value, list):
        return [_ids(x, find) for x in value]
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if (found := find(str(value).strip())) is None and value != _NONE:
        raise LookupError(value)
    return _NONE if found is None else found
