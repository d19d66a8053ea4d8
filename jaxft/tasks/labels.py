"""Labels: a column of names or numbers to ids, and the label set."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.data.encode import per_row
from jaxft.errors import UserError, some
from jaxft.models.model import are_generic, labels_of


def label_column(data: DataConfig) -> str:
    """The one column that `data.label` names.

    Raises:
      UserError: when it names several.
    """
    if isinstance(data.label, str):
        return data.label
    if len(data.label) == 1:
        return data.label[0]
    raise UserError(f"data.label names {len(data.label)} columns ({', '.join(data.label)}); one label is in one column")


def label_values(rows: Any, column: str, origin: str) -> list[str]:
    """The label column as text: the name behind a ClassLabel, `1` for 1 and 1.0.

    Raises:
      UserError: for a missing label, naming its row.
    """
    names = getattr(rows.features[column], "names", None)

    def text(value: Any) -> str:
        if names is not None and isinstance(value, int) and 0 <= value < len(names):
            return names[value]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        return "" if missing else str(value).strip()

    values = per_row(rows, column, text)
    for number, value in enumerate(values, 1):
        if not value:
            raise UserError(f'{origin}: row {number} has no label in column "{column}"')
    return values


def label_names(values: Sequence[str]) -> list[str]:
    """The label set of the training data: numbers in their order, otherwise sorted by name."""
    distinct = sorted(set(values))
    return sorted(distinct, key=int) if all(_is_number(v) for v in distinct) else distinct


def label_ids(values: Sequence[str], names: Sequence[str], origin: str) -> np.ndarray:
    """Labels, by name or by number, as int32 ids.

    Raises:
      UserError: for a label that is not one of `names`, naming its row.
    """
    ids = {name: i for i, name in enumerate(names)}
    if not any(_is_number(name) for name in names):
        ids |= {str(i): i for i in range(len(names))}
    for number, value in enumerate(values, 1):
        if value not in ids:
            kinds = ""
            if all(_is_number(name) for name in names) and not _is_number(value):
                kinds = "; the known labels are numbers and this one is text"
            raise UserError(
                f'{origin}: row {number} has the label "{value}", which is not one of the {len(names)} known labels '
                f"({some(list(names))}){kinds}"
            )
    return np.asarray([ids[value] for value in values], np.int32)


def known_labels(hf_config: Mapping[str, Any], found: list[str]) -> list[str]:
    """The checkpoint's own labels where the data's are the same set or their numbers, so that its head is kept."""
    known = labels_of(hf_config)
    if are_generic(known):
        return found
    return known if set(found) == set(known) or found == [str(i) for i in range(len(known))] else found


def class_weights(option: str | Sequence[float], names: Sequence[str], counts: np.ndarray) -> tuple[float, ...]:
    """Weights of the labels in the loss, the smallest that is above 0 being 1.

    A common factor does not change a weighted mean, and so no step's weight is below 1 while it has any.

    Args:
      option: `balanced` (inverse to the counts; labels that never occur count as if they were average), or the weights.
      names: of the labels.
      counts: int [labels], in the training data.

    Raises:
      UserError: when there are not as many weights as labels.
    """
    if option == "balanced":
        weights = np.where(counts > 0, counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)), 1.0)
    else:
        weights = np.asarray(option, np.float64)
    if len(weights) != len(names):
        raise UserError(
            f"task.class_weights has {len(weights)} numbers, but there are {len(names)} labels ({some(list(names))})"
        )
    return tuple((weights / weights[weights > 0].min()).tolist())


def _is_number(value: str) -> bool:
    return value.removeprefix("-").isdecimal()
