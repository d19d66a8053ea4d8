"""What classification and regression of texts share: texts or pairs of texts, with labels, and the head for them."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from jaxft.config import Config
from jaxft.data.batching.collect import Summary
from jaxft.models.model import labels_of
from jaxft.tasks import texts
from jaxft.tasks.labels import PROBLEM_TYPES, label_columns
from jaxft.tasks.task import Batch, Outputs, Split, Task


@dataclass(frozen=True)
class LabelledTexts(Task):
    """A task on texts with labels.

    Attributes:
      names: the names of the labels, or of the targets of a regression, in the order of their ids.

    Class attributes:
      problem: the task's `task.problem`.
    """

    names: tuple[str, ...]

    kind: ClassVar[str] = "text-classification"
    problem: ClassVar[str]

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """The labels are those of config.json."""
        return cls(tuple(labels_of(hf_config)))

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """The rows whose texts are not empty."""
        return texts.read(config.data, split, label_columns(config.data) if labelled else [])

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """One example per row, with the column `labels` of `encode_labels`."""
        examples = texts.encode(rows, tokenizer, directory, config.data, origin)
        if labelled:
            examples = examples.with_columns(labels=self.encode_labels(rows, config, origin))
        return Split(rows, examples, origin)

    @abc.abstractmethod
    def encode_labels(self, rows: Any, config: Config, origin: str) -> np.ndarray:
        """The labels of the rows as numbers, [N] or [N, labels].

        Raises:
          UserError: if a row's labels cannot be read, or are not those of the task; the message names the row.
        """

    @property
    def labels(self) -> tuple[str, ...]:
        """The names."""
        return self.names

    @property
    def config_fields(self) -> Mapping[str, Any]:
        """Hugging Face's `problem_type`."""
        return {"problem_type": PROBLEM_TYPES[self.problem]}

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The logits [R, M, labels]."""
        return Summary(examples={"logits": outputs["logits"]})
