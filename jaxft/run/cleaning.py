"""Reads, cleans and examines the data of a run, and says which training rows the run would leave out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.cleaning.cleaner import check_rules, counted
from jaxft.data.formats.other_columns import with_other_columns
from jaxft.data.quality import report
from jaxft.data.quality.report import Source
from jaxft.data.quality.row_texts import RowTexts
from jaxft.data.quality.selection import counts_by_reason, dropped, left_out_lines, unknown
from jaxft.data.reading import files
from jaxft.data.reading.empty_texts import check_not_kept
from jaxft.data.reading.row_numbers import select_rows
from jaxft.run.model_setup import resolve_model
from jaxft.run.row_removal import TRAIN, search_of
from jaxft.run.run_tokenizer import open_vocabulary
from jaxft.run.teacher_labels import is_labelled
from jaxft.tasks import task_class
from jaxft.tasks.custom import file_rows
from jaxft.tasks.limits import first_rows
from jaxft.tasks.task import Task


@dataclass(frozen=True)
class CleanedData:
    """The data of a run after cleaning.

    Attributes:
      kind: the task.
      rows: the cleaned rows of each split, none of which is left out.
      found: what `report.findings` found, and `changed`, the number of texts that each step changed.
      left_out: the training rows that are left out, bool [rows], by reason.
      sources: where the rows of each split come from.
    """

    kind: type[Task]
    rows: Mapping[str, Any]
    found: Mapping[str, Any]
    left_out: Mapping[str, np.ndarray]
    sources: Mapping[str, Source]

    @property
    def kept(self) -> Any:
        """The training rows that stay."""
        if not self.left_out:
            return self.rows[TRAIN]
        return select_rows(self.rows[TRAIN], np.flatnonzero(~counts_by_reason(self.left_out)[0]))

    def tables(self, rows: Any, config: Config, split: str) -> Iterator[Any]:
        """Rows of a split as Arrow tables, with the columns of their file that the task does not read, if it has rows."""
        tables, numbers = self.kind.file_tables(rows, config), file_rows(self.kind, rows)
        if numbers is None or not len(numbers):
            return tables
        return with_other_columns(tables, numbers, config.data, split, tagged=self.kind.tags_words)

    def lines(self) -> list[str]:
        """The report as it is printed."""
        return report.lines(self.found) + left_out_lines(self.left_out)

    def document(self) -> dict[str, Any]:
        """The report with every row."""
        where = self.sources[TRAIN].where if self.left_out else str
        left_out = {why: [where(int(row)) for row in np.flatnonzero(mask)] for why, mask in self.left_out.items()}
        return {**self.found, "left out": left_out}


def clean(config: Config, splits: Sequence[str], *, near: bool = True) -> CleanedData:
    """Read and clean splits, and search them for what `report.findings` describes.

    Training rows are those of a run, but none are set aside for validation. Of other splits all rows are examined.

    Raises:
      UserError: for data that cannot be read, or a rule that matches nothing in any split.
    """
    check_not_kept(config.data)
    kind, options = task_class(config), config.data.clean
    with counted() as changed:
        rows = {split: kind.read(config, split, labelled=is_labelled(config, split)) for split in splits}
    origins = {split: files.origin(config.data, split) for split in splits}
    check_rules(options.rules, changed, ", ".join(origins.values()))
    if TRAIN in rows:
        rows[TRAIN] = first_rows(kind, rows[TRAIN], config, TRAIN)
    search = search_of(kind, rows, config, origins, labelled=[split for split in splits if is_labelled(config, split)])
    left_out = dropped(options, search, TRAIN) if TRAIN in rows else {}
    tokenizer = None
    if config.model.path is not None:
        directory, _ = resolve_model(config)
        some = rows.get(TRAIN, next(iter(rows.values())))
        tokenizer = open_vocabulary(config.vocabulary, directory, None, lambda: kind.texts(some, config)).tokenizer
    elif options.min_known is not None:
        raise UserError("data.clean.min_known is set, but there is no vocabulary: give model.path")
    if TRAIN in rows and tokenizer is not None:
        left_out |= unknown(options, RowTexts(rows[TRAIN], kind.text_columns(config)), tokenizer)
    sources = {split: Source(origins[split], kind.row_names(x, origins[split])) for split, x in rows.items()}
    found = report.findings(
        options,
        search,
        sources,
        tokenizer=tokenizer,
        longest=config.data.max_length,
        counts_labels=kind.names_labels,
        near=near,
    )
    return CleanedData(kind, rows, {"changed": dict(changed), **found}, left_out, sources)
