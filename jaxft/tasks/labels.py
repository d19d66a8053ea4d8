"""Labels: the label set of a run, ids for columns of names or numbers, and class weights."""

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxft.config import Config, DataConfig
from jaxft.core.errors import UserError, some
from jaxft.data.reading.columns import column_values
from jaxft.data.reading.label_spelling import are_numbers, finder, in_order, same_labels, same_number
from jaxft.data.reading.row_numbers import RowName, row_names
from jaxft.models.families import family_of, kind_of
from jaxft.models.model import are_generic, labels_of

# task.problem -> `problem_type` of Hugging Face's config.json
PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}

# A multi-hot row as text.
_MULTI_HOT = re.compile(r"[\[(]?\s*[01](\.0*)?([\s,;|]+[01](\.0*)?)+\s*(,\s*)?[\])]?")


def problem_of(hf_config: Mapping[str, Any], otherwise: str) -> str:
    """The `task.problem` of a fine-tuned text classifier, from its config.json.

    Without `problem_type` a head with one output is for regression, as in Hugging Face's models, and one with several
    outputs for the problem `otherwise`.

    Raises:
      UserError: if the `problem_type` is unknown.
    """
    given = hf_config.get("problem_type")
    if given is None:
        return "regression" if len(labels_of(hf_config)) == 1 else otherwise
    problems = {theirs: ours for ours, theirs in PROBLEM_TYPES.items()}
    if not isinstance(given, str) or given not in problems:
        raise UserError(f"config.json: problem_type is {given!r}: must be one of {', '.join(problems)}")
    return problems[given]


def label_columns(data: DataConfig) -> list[str]:
    """The columns that `data.label` names."""
    return [data.label] if isinstance(data.label, str) else list(data.label)


def label_column(data: DataConfig) -> str:
    """The one column that `data.label` names.

    Raises:
      UserError: if it names several.
    """
    columns = label_columns(data)
    if len(columns) == 1:
        return columns[0]
    raise UserError(f"data.label names {len(columns)} columns ({', '.join(columns)}); name the one column of the label")


def label_values(rows: Any, column: str, origin: str) -> list[str]:
    """The values of a label column as text: the name of a ClassLabel's number, `1` for 1 and 1.0.

    Raises:
      UserError: if a row has no label or several; the message names the row.
    """
    names = getattr(rows.features[column], "names", None)
    values, where = [], row_names(rows, origin)
    for i, value in enumerate(column_values(rows, column)):
        if isinstance(value, list | dict):
            raise UserError(
                f'{where(i)} has {repr(value)[:60]} in column "{column}": must be one label; task.problem '
                "multi_label takes lists"
            )
        values.append(label_text(value, names, where, i))
        if not values[-1]:
            raise UserError(f'{where(i)} has no label in column "{column}"')
    if values and all(_MULTI_HOT.fullmatch(value) for value in set(values)):
        raise UserError(
            f'{origin}: column "{column}" has rows of 0 and 1 ({some(sorted(set(values)), 2)}), which are several labels: '
            "set task.problem multi_label"
        )
    return values


def numbers(rows: Any, columns: Sequence[str], origin: str) -> np.ndarray:
    """Columns of numbers, or of numbers written as text, as float32 [N, columns].

    Raises:
      UserError: if a value is not a finite number; the message names the row.
    """
    table = np.empty((len(rows), len(columns)), np.float32)
    for c, column in enumerate(columns):
        for i, value in enumerate(column_values(rows, column)):
            try:
                table[i, c] = float(value)
            except (TypeError, ValueError):
                table[i, c] = np.nan
            if not np.isfinite(table[i, c]):
                raise UserError(f'{row_names(rows, origin)(i)} has {value!r} in column "{column}": must be a number')
    return table


def choose_labels(
    config: Config, hf_config: Mapping[str, Any], kind: str, declared: Sequence[str], found: Collection[str], where: str
) -> list[str]:
    """The labels of a new run in the order of their ids.

    They are `task.labels`, the names that the data's features declare, or those found in the training rows. If no order is
    declared and the labels are those of the checkpoint's head (of this `kind`), the head's order is kept. If the labels are
    numbers and the head's labels have names, the numbers are taken as ids of the head's labels. `where` names the file and
    the column in error messages.

    Raises:
      UserError: if two labels are the same number.
    """
    if config.task.labels:
        return config.task.labels
    names = list(declared) or in_order(found, where)
    known = head_labels(hf_config, kind)
    if not declared and same_labels(names, known):
        return known
    return known if not are_generic(known) and are_numbers(names, len(known)) else names


def head_labels(hf_config: Mapping[str, Any], kind: str) -> list[str]:
    """The labels of a checkpoint's head; empty if it has no head of this kind."""
    return labels_of(hf_config) if kind_of(family_of(hf_config, "config.json"), hf_config) == kind else []


def of_first_rows(config: Config) -> str:
    """The end of a message about too few labels: where the limit of `data.max_train_examples` may have left others out."""
    limit = config.data.max_train_examples
    if limit is None:
        return ""
    return f"; data.max_train_examples takes the first {limit:,} rows: if the file is sorted by label, shuffle it"


def label_ids(
    values: Sequence[str],
    names: Sequence[str],
    where: RowName,
    rows: Iterable[int] | None = None,
    *,
    unknown: int | None = None,
    advice: str = "; data.unknown_labels drop leaves such labels out",
) -> np.ndarray:
    """The ids of labels that are given by name or by number, int32 [values] (see `label_spelling.finder`).

    Args:
      values, names: the labels, and all label names in the order of their ids.
      where: names a row in error messages.
      rows: the row of each value, counted from 0; None means one value per row.
      unknown: the id of labels that are not in `names`; None makes them an error.
      advice: the end of the error message.

    Raises:
      UserError: if a label is not in `names` and `unknown` is None; the message names the row.
    """
    find = finder(names)
    ids = {value: unknown if (i := find(value)) is None else i for value in set(values)}
    if None in ids.values():
        numbered = zip(itertools.count() if rows is None else rows, values, strict=False)
        row, value = next((row, value) for row, value in numbered if ids[value] is None)
        raise UserError(
            f'{where(row)} has the label "{value}", which is not one of the {len(names)} known labels '
            f"({some(list(names))}){_hint(value, names) or advice}"
        )
    return np.asarray([ids[value] for value in values], np.int32)


def _hint(value: str, names: Sequence[str]) -> str:
    if other := same_number(value, names):
        return f'; it is the number "{other}", written in another way'
    if all(map(_is_number, names)) and not _is_number(value):
        return "; the known labels are numbers and this one is text"
    return ""


def class_weights(
    option: str | Sequence[float] | None, names: Sequence[str], counts: np.ndarray, total: int | None = None
) -> tuple[float, ...] | None:
    """`task.class_weights` as one number per label.

    Args:
      option: `balanced` (as scikit-learn's compute_class_weight; 1 for a label without examples), the weights, or None.
      names, counts: the label names, and the number of training examples with each, int [labels].
      total: for multi-label tasks the number of training examples; `balanced` is then negatives over positives.

    Raises:
      UserError: if the number of weights is not the number of labels.
    """
    if option is None:
        return None
    if option == "balanced":
        seen = np.maximum(counts, 1)
        weights = counts.sum() / (np.count_nonzero(counts) * seen) if total is None else (total - counts) / seen
        return tuple(np.where(counts > 0, weights, 1.0).tolist())
    if len(option) != len(names):
        raise UserError(
            f"task.class_weights has {len(option)} numbers, but there are {len(names)} labels ({some(list(names))})"
        )
    return tuple(map(float, option))


def scores_by_name(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    """The scores [labels] of a prediction by label name, rounded to the 9 digits that float32 can hold."""
    return {name: float(f"{x:.9g}") for name, x in zip(names, values, strict=True)}


def label_text(value: Any, names: Sequence[str] | None, where: RowName, row: int) -> str:
    """A label as text: the name of a ClassLabel's number, `1` for 1.0, "" for a missing label (-1 in Hugging Face's data).

    Raises:
      UserError: if labels have names and there is none for this number.
    """
    if names is not None and isinstance(value, int):
        if value == -1:
            return ""
        if not 0 <= value < len(names):
            raise UserError(f"{where(row)} has the label {value}, but only {len(names)} labels have names")
        return names[value]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value).strip()


def _is_number(value: str) -> bool:
    return value.removeprefix("-").isdecimal()
