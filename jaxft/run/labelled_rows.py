"""The labelled rows of a run as files of their own, so that runs can be made of a part of them or with more rows."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxft.config import CleanConfig, Config
from jaxft.core import checksums
from jaxft.core.errors import UserError
from jaxft.run.model_setup import check_given, resolve_model
from jaxft.run.splits import ReadRows, read_rows
from jaxft.tasks import task_class, texts
from jaxft.tasks.labels import label_column
from jaxft.tasks.text_classification import TextClassification

JsonRow = Mapping[str, Any]


def check_single_label(config: Config, command: str, why: str) -> None:
    """Raise a UserError unless the task is to give each text (or pair of texts) one label."""
    if not issubclass(task_class(config), TextClassification):
        problem = f" with task.problem {config.task.problem}" if config.task.name == TextClassification.kind else ""
        raise UserError(
            f"{command}: the task is {config.task.name}{problem}, {why}: must be text-classification with task.problem "
            "single_label"
        )


@dataclass(frozen=True)
class LabelledRows:
    """The rows of a run's splits, with the label set learned from them, and the config of the run.

    Attributes:
      config: its `task.labels` is the label set, so that runs on a part of the rows have the same outputs.
    """

    config: Config
    rows: ReadRows

    def json_rows(self, split: str) -> list[JsonRow]:
        """The rows of a split as they are written: the text columns, and the label by name."""
        names = self.rows.task.labels or ()
        ids = self.label_ids(split)
        keys = [*texts.columns(self.config.data), label_column(self.config.data)]
        rows = zip(texts.of_rows(self.rows.rows[split], self.config.data), ids, strict=True)
        return [dict(zip(keys, [*row, names[i]], strict=True)) for row, i in rows]

    def label_ids(self, split: str) -> Any:
        """The label ids of a split, int32 [N]."""
        task = self.rows.task
        assert isinstance(task, TextClassification)
        return task.encode_labels(self.rows.rows[split], self.config, self.rows.origins[split])

    def run_config(self, output: Path, train: list[str], others: Mapping[str, str]) -> Config:
        """The config of a run on files that `write_rows` wrote: `train`, and `others` in place of further splits."""
        own = {"train": train, **others, "max_train_examples": None, "validation_share": 0.0, "stratify": False}
        own["clean"] = CleanConfig()  # the rows are clean
        if self.config.data.dataset:
            own |= {"dataset": None, "dataset_config": None}
        data = replace(self.config.data, **own)
        return replace(self.config, output_dir=str(output), data=data)


def read_labelled(config: Config) -> LabelledRows:
    """Read all splits of a run with one label per text.

    Raises:
      UserError: for what is missing or malformed.
    """
    check_given(config)
    for option, column in (("data.weight", config.data.weight), ("domains.column", config.domains.column)):
        if column is not None:
            raise UserError(f"{option} is {column}, but the files that this command writes have texts and labels only")
    rows = read_rows(config, *resolve_model(config))
    labels = list(rows.task.labels or ())
    return LabelledRows(replace(config, task=replace(config.task, labels=labels)), rows)


def write_rows(path: Path, rows: Iterable[JsonRow]) -> str:
    """Write rows as JSON lines, unless the file exists, and return its path; an interrupted write leaves no file."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with checksums.replacing(path) as file:
            file.writelines(lines(rows))
    return str(path)


def lines(rows: Iterable[JsonRow]) -> Iterator[bytes]:
    """Rows as JSON lines."""
    return (f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)
