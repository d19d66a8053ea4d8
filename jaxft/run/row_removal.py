"""Leaves out the training rows that `data.clean` excludes, before they are tokenised."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.quality.repeats import Search, SplitTexts
from jaxft.data.quality.row_texts import RowTexts
from jaxft.data.quality.selection import counted, counts_by_reason, dropped, unknown
from jaxft.data.reading.row_numbers import select_rows
from jaxft.run.teacher_labels import is_labelled
from jaxft.tasks.task import Task

TRAIN = "train"


def search_of(
    kind: type[Task], rows: Mapping[str, Any], config: Config, origins: Mapping[str, str], *, labelled: Collection[str]
) -> Search:
    """The search for repeats in the rows of all splits; the labels of the splits `labelled` are read.

    Raises:
      UserError: if `data.clean` asks for what these splits, or rows of this task, cannot have.
    """
    clean = config.data.clean
    if clean.leaks == "drop" and len(rows) == 1:
        raise UserError("data.clean.leaks is drop, but there is no validation or test data: leave it at keep")
    columns = kind.text_columns(config)
    labels = {split: kind.row_labels(rows[split], config, origins[split]) for split in labelled}
    splits = {s: SplitTexts(RowTexts(x, columns), labels.get(s), kind.tags_words) for s, x in rows.items()}
    if clean.conflicts == "drop" and None in labels.values():
        raise UserError(f"data.clean.conflicts is drop, but rows of {kind.kind} have no labels: leave it at keep")
    return Search(splits, clean.near_similarity)


def without_dropped(
    kind: type[Task], rows: Mapping[str, Any], config: Config, origins: Mapping[str, str]
) -> tuple[Any, tuple[str, ...]]:
    """(the training rows that stay, a line for the log); the numbers of the rows are still those in their file.

    Args:
      kind: the task.
      rows: those of training after limits, without those that are set aside for validation; and all rows of the other
        splits, as leaks are sought in them whatever part of them is evaluated.
      config: its `data.clean`; `min_known` is left to `without_unknown`.
      origins: the file of each split.

    Raises:
      UserError: if nothing remains.
    """
    if not config.data.clean.drops:
        return rows[TRAIN], ()
    search = search_of(kind, rows, config, origins, labelled=[TRAIN] if is_labelled(config, TRAIN) else [])
    return _without(rows[TRAIN], dropped(config.data.clean, search, TRAIN), origins[TRAIN])


def without_unknown(kind: type[Task], rows: Any, tokenizer: Any, config: Config, origin: str) -> tuple[Any, tuple[str, ...]]:
    """(the training rows with a large enough share of known tokens, a line for the log)."""
    texts = RowTexts(rows, kind.text_columns(config))
    return _without(rows, unknown(config.data.clean, texts, tokenizer), origin)


def _without(rows: Any, found: Mapping[str, np.ndarray], origin: str) -> tuple[Any, tuple[str, ...]]:
    if not found:
        return rows, ()
    left_out, counts = counts_by_reason(found)
    if left_out.all():
        raise UserError(f"{origin}: data.clean leaves out every training example ({_reasons(counts)})")
    if not left_out.any():
        return rows, ()
    return select_rows(rows, np.flatnonzero(~left_out)), (note(origin, len(rows), counts),)


def note(origin: str, total: int, counts: Mapping[str, int]) -> str:
    """A line that counts the rows that are left out."""
    return f"{origin}: {sum(counts.values()):,} of {total:,} training examples are left out (data.clean): {_reasons(counts)}"


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(counted(count, reason) for reason, count in counts.items())
