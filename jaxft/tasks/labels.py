"""Labels: columns of names or numbers to ids, the label set, and the weights of its labels."""

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxft.config import Config, DataConfig
from jaxft.core.errors import UserError, some
from jaxft.data.reading.columns import map_column
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

# 0 and 1 one after the other, as text: what a row of marks looks like
_MARKS = re.compile(r"[\[(]?\s*[01](\.0*)?([\s,;|]+[01](\.0*)?)+\s*(,\s*)?[\])]?")


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
    if not isinstance(given, str) or given not in problems:
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


def declared_labels(feature: Any) -> list[str]:
    """The names that a column's feature declares, a ClassLabel's or those of a list of them, in their order; or none."""
    inner = getattr(feature, "feature", feature)
    return list(getattr(inner, "names", None) or [])


def label_values(rows: Any, column: str, origin: str) -> list[str]:
    """The label column as text: the name behind a ClassLabel, `1` for 1 and 1.0.

    Raises:
      UserError: for a missing label, or several in a row, naming its row.
    """
    names = getattr(rows.features[column], "names", None)
    raw = map_column(rows, column, lambda x: x)
    values, where = [], row_names(rows, origin)
    for i, value in enumerate(raw):
        if isinstance(value, list | dict):
            raise UserError(
                f'{where(i)} has {repr(value)[:60]} in column "{column}": must be one label; task.problem '
                "multi_label takes lists"
            )
        values.append(as_text(value, names, where, i))
        if not values[-1]:
            raise UserError(f'{where(i)} has no label in column "{column}"')
    if values and all(_MARKS.fullmatch(value) for value in set(values)):
        raise UserError(
            f'{origin}: column "{column}" has rows of 0 and 1 ({some(sorted(set(values)), 2)}), which are many labels: set '
            "task.problem multi_label"
        )
    return values


def numbers(rows: Any, columns: Sequence[str], origin: str) -> np.ndarray:
    """Columns of numbers, or of text that is numbers, as float32 [N, columns].

    Raises:
      UserError: for what is no finite number, naming its row.
    """
    table = np.empty((len(rows), len(columns)), np.float32)
    for c, column in enumerate(columns):
        for i, value in enumerate(map_column(rows, column, lambda x: x)):
            try:
                table[i, c] = float(value)
            except (TypeError, ValueError):
                table[i, c] = np.nan
            if not np.isfinite(table[i, c]):
                raise UserError(f'{row_names(rows, origin)(i)} has {value!r} in column "{column}": must be a number')
    return table


def learnt_labels(
    config: Config, hf_config: Mapping[str, Any], declared: Sequence[str], found: Collection[str], where: str
) -> list[str]:
    """The labels of a new run in the order of their ids: `task.labels`, those that the data declares, or those in it.

    Labels that nobody declares have the order of the checkpoint's own head where they are its labels. Numbers are those of
    a head's labels where they have names.

    Args:
      config: of the run.
      hf_config: config.json of the checkpoint.
      declared: names of the data's features, in their order.
      found: labels of the training rows.
      where: their file and column, for messages.

    Raises:
      UserError: when two labels are the same number.
    """
    if config.task.labels:
        return config.task.labels
    names = list(declared) or in_order(found, where)
    known = own_labels(hf_config, config.task.name)
    if not declared and same_labels(names, known):
        return known
    return known if not are_generic(known) and are_numbers(names, len(known)) else names


def own_labels(hf_config: Mapping[str, Any], kind: str) -> list[str]:
    """The labels of a checkpoint's own head; none where it has no head of this kind."""
    return labels_of(hf_config) if kind_of(family_of(hf_config, "config.json"), hf_config) == kind else []


def label_ids(
    values: Sequence[str],
    names: Sequence[str],
    where: RowName,
    rows: Iterable[int] | None = None,
    *,
    unknown: int | None = None,
    advice: str = "; data.unknown_labels drop leaves such labels out",
) -> np.ndarray:
    """Labels, by name or by number, as int32 ids (see `spelling.finder`).

    Args:
      values: labels.
      names: all of them, in the order of their ids.
      where: what messages call a row.
      rows: the row of each value, counted from 0; None is one value a row.
      unknown: the id of a label that is not one of `names`; None makes it an error.
      advice: for the message.

    Raises:
      UserError: for a label that is not one of `names`, naming its row.
    """
    find = finder(names)
    ids: dict[str, int | None] = {value: find(value) for value in set(values)}
    if unknown is not None:
        ids = {value: unknown if i is None else i for value, i in ids.items()}
    elif None in ids.values():
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


def as_text(value: Any, names: Sequence[str] | None, where: RowName, row: int) -> str:
    """A label as text: the name behind a ClassLabel's number, `1` for 1.0, nothing for what is missing.

    Raises:
      UserError: for a number without a name, where they have names; -1 is Hugging Face's sign for no label.
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
