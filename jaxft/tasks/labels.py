"""Labels: columns of names or numbers to ids, the label set, and the weights of its labels."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxft.config import Config, DataConfig
from jaxft.data.encode import per_row
from jaxft.errors import UserError, some
from jaxft.models.model import are_generic, labels_of

# task.problem -> `problem_type` of Hugging Face's config.json
PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


def problem_of(hf_config: Mapping[str, Any], otherwise: str) -> str:
    """The `task.problem` of a fine-tuned text classifier.

    As in Hugging Face, one output without a `problem_type` is a number.

    Args:
      hf_config: config.json.
      otherwise: where it does not say.

    Raises:
      UserError: for an unknown `problem_type`.
    """
    given = hf_config.get("problem_type")
    if given is None:
        return "regression" if len(labels_of(hf_config)) == 1 else otherwise
    problems = {theirs: ours for ours, theirs in PROBLEM_TYPES.items()}
    if given not in problems:
        raise UserError(f"config.json: problem_type is {given!r}: must be one of {', '.join(problems)}")
    return problems[given]


def no_smoothing(config: Config) -> None:
    """Refuse label smoothing, for losses that have none."""
    if config.train.label_smoothing:
        raise UserError(
            f"train.label_smoothing is {config.train.label_smoothing}, but task.problem {config.task.problem} has none: "
            "leave it at 0"
        )


def label_columns(data: DataConfig) -> list[str]:
    """The columns that `data.label` names."""
    return [data.label] if isinstance(data.label, str) else list(data.label)


def label_column(data: DataConfig) -> str:
    """The one column that `data.label` names.

    Raises:
      UserError: when it names several.
    """
    columns = label_columns(data)
    if len(columns) == 1:
        return columns[0]
    raise UserError(f"data.label names {len(columns)} columns ({', '.join(columns)}); one label is in one column")


def label_values(rows: Any, column: str, origin: str) -> list[str]:
    """The label column as text: the name behind a ClassLabel, `1` for 1 and 1.0.

    Raises:
      UserError: for a missing label, naming its row.
    """
    names = getattr(rows.features[column], "names", None)
    values = per_row(rows, column, lambda value: _as_text(value, names))
    for number, value in enumerate(values, 1):
        if not value:
            raise UserError(f'{origin}: row {number} has no label in column "{column}"')
    return values


def label_lists(rows: Any, data: DataConfig, origin: str) -> list[list[str]]:
    """The labels of every row, perhaps none: a list, text cut at `data.label_separator`, or the columns that hold 1.

    Raises:
      UserError: for a row whose labels are not of that kind, naming it.
    """
    columns = label_columns(data)
    if len(columns) > 1:
        return _marked(rows, columns, origin)
    column, separator = columns[0], data.label_separator
    names = getattr(getattr(rows.features[column], "feature", None), "names", None)
    found = []
    for number, value in enumerate(per_row(rows, column, lambda x: x), 1):
        if separator and isinstance(value, str):
            found.append([part.strip() for part in value.split(separator) if part.strip()])
            continue
        if not isinstance(value, list):
            raise UserError(
                f'{origin}: row {number} has {value!r} in column "{column}": must be a list of labels, or text with '
                "data.label_separator set"
            )
        found.append([_as_text(x, names) for x in value])
        if not all(found[-1]):
            raise UserError(f'{origin}: row {number} has an empty label in column "{column}"')
    return found


def multi_hot(lists: Sequence[Sequence[str]], names: Sequence[str], origin: str) -> np.ndarray:
    """Lists of labels as int8 [N, labels] of 0 and 1.

    Raises:
      UserError: for a label that is not one of `names`, naming its row.
    """
    rows = np.repeat(np.arange(len(lists)), [len(labels) for labels in lists])
    hot = np.zeros((len(lists), len(names)), np.int8)
    hot[rows, label_ids([x for labels in lists for x in labels], names, origin, rows + 1)] = 1
    return hot


def numbers(rows: Any, columns: Sequence[str], origin: str) -> np.ndarray:
    """Columns of numbers, or of text that is numbers, as float32 [N, columns].

    Raises:
      UserError: for what is no finite number, naming its row.
    """
    table = np.empty((len(rows), len(columns)), np.float32)
    for c, column in enumerate(columns):
        for i, value in enumerate(per_row(rows, column, lambda x: x)):
            try:
                table[i, c] = float(value)
            except (TypeError, ValueError):
                table[i, c] = np.nan
            if not np.isfinite(table[i, c]):
                raise UserError(f'{origin}: row {i + 1} has {value!r} in column "{column}": must be a number')
    return table


def label_names(values: Sequence[str]) -> list[str]:
    """The label set of the training data: numbers in their order, otherwise sorted by name."""
    distinct = sorted(set(values))
    return sorted(distinct, key=int) if all(_is_number(v) for v in distinct) else distinct


def label_ids(values: Sequence[str], names: Sequence[str], origin: str, rows: Iterable[int] | None = None) -> np.ndarray:
    """Labels, by name or by number, as int32 ids.

    Args:
      values: labels.
      names: all of them, in the order of their ids.
      origin: file, for messages.
      rows: the row of each value, counted from 1; None is one value a row.

    Raises:
      UserError: for a label that is not one of `names`, naming its row.
    """
    ids = {name: i for i, name in enumerate(names)}
    if not any(_is_number(name) for name in names):
        ids |= {str(i): i for i in range(len(names))}
    for number, value in zip(itertools.count(1) if rows is None else rows, values, strict=False):
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


def class_weights(
    option: str | Sequence[float] | None, names: Sequence[str], counts: np.ndarray, total: int | None = None
) -> tuple[float, ...] | None:
    """`task.class_weights` as a number for each label.

    Args:
      option: `balanced` (as scikit-learn's compute_class_weight; 1 for a label without examples), the weights, or None.
      names: of the labels.
      counts: int [labels], training examples of each.
      total: of these examples, where every label is a question of its own; balanced then weighs having it against not.

    Raises:
      UserError: for another number of weights than labels.
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


def shares(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    """Numbers by name for a prediction, with as many digits as float32 holds."""
    return {name: float(f"{x:.9g}") for name, x in zip(names, values, strict=True)}


def _marked(rows: Any, columns: Sequence[str], origin: str) -> list[list[str]]:
    """The names of the columns that hold 1, row by row."""
    found: list[list[str]] = [[] for _ in range(len(rows))]
    for column in columns:
        for number, value in enumerate(per_row(rows, column, lambda x: _as_text(x, None).lower()), 1):
            if value not in ("0", "1", "true", "false"):
                raise UserError(f'{origin}: row {number} has "{value}" in column "{column}": must be 0 or 1')
            if value in ("1", "true"):
                found[number - 1].append(column)
    return found


def _as_text(value: Any, names: Sequence[str] | None) -> str:
    """A label as text: the name behind a ClassLabel's number, `1` for 1.0, nothing for what is missing."""
    if names is not None and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value).strip()


def _is_number(value: str) -> bool:
    return value.removeprefix("-").isdecimal()
