"""Label names that files declare (Hugging Face's ClassLabel), applied to the rows of files that declare none."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from jaxft.core.errors import UserError, some
from jaxft.data.reading.label_spelling import finder

_FEATURES = b"huggingface"
_NO_LABEL = -1  # as in Hugging Face's data sets


def with_declared_labels(tables: Sequence[Any], where: str) -> tuple[list[Any], Any]:
    """Converts the labels of every table to ids if any table declares the names of a column's labels.

    If a table declares nothing, its labels are names or numbers (see `label_spelling.finder`). `where` is for messages.
    Returns (the tables, their common schema metadata).

    Raises:
      UserError: if two tables declare different names, or a label is not among those that another table declares.
    """
    import datasets

    declared = [_declared_features(table) for table in tables]
    merged: dict[str, Any] = {}
    for features in declared:
        for name, feature in features.items():
            if merged.setdefault(name, feature) != feature:
                raise UserError(f'{where}: the files declare different labels for the column "{name}"')
    if not merged:
        return list(tables), tables[0].schema.metadata
    converted, row = list(tables), 0
    for i, features in enumerate(declared):
        for name in merged.keys() & set(tables[i].column_names) - features.keys():
            converted[i] = _with_ids(converted[i], name, merged[name], where, row)
        row += len(tables[i])
    return converted, datasets.Features(merged).arrow_schema.metadata


def _declared_features(table: Any) -> dict[str, Any]:
    """The features of the columns that declare the names of their labels."""
    import datasets

    if _FEATURES not in (table.schema.metadata or {}):
        return {}
    features = datasets.Features.from_arrow_schema(table.schema)
    return {name: feature for name, feature in features.items() if label_names(feature) is not None}


def label_names(feature: Any) -> list[str] | None:
    """The names that a ClassLabel, or a list of ClassLabels, declares; None for other features."""
    return getattr(getattr(feature, "feature", feature), "names", None)


def _with_ids(table: Any, column: str, feature: Any, where: str, before: int) -> Any:
    import datasets
    import pyarrow as pa

    names = label_names(feature) or []
    find, ids = finder(names), []
    for number, value in enumerate(table[column].to_pylist(), before + 1):
        try:
            ids.append(_ids(value, find))
        except LookupError as error:
            raise UserError(
                f'{where}: row {number} has the label "{error.args[0]}" in column "{column}", which is none of the '
                f"{len(names)} that other files declare ({some(names)})"
            ) from None
    kind = datasets.Features({column: feature}).arrow_schema.field(0).type
    return table.set_column(table.column_names.index(column), column, pa.array(ids, kind))


def _ids(value: Any, find: Callable[[str], int | None]) -> Any:
    """The id of a label, or of each label in a list; raises LookupError for an unknown label."""
    if isinstance(value, list):
        return [_ids(x, find) for x in value]
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if (label_id := find(str(value).strip())) is None and value != _NO_LABEL:
        raise LookupError(value)
    return _NO_LABEL if label_id is None else label_id
