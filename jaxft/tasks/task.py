"""What a task is: columns to features, head, loss, what evaluation and prediction read back, scores, decode."""

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Collected
from jaxft.data.reading.columns import CHUNK
from jaxft.data.reading.label_spelling import are_numbers
from jaxft.data.reading.row_numbers import select_rows
from jaxft.data.tokens.encode import Examples
from jaxft.losses import WeightedSum
from jaxft.models.model import are_generic
from jaxft.tasks.labels import own_labels

Array = jax.Array
Outputs = Mapping[str, Array]
Batch = dict[str, Array]
Summary = dict[str, dict[str, Array]]


@dataclass(frozen=True)
class Split:
    """A part of the data.

    Attributes:
      rows: a `datasets.Dataset`, as read.
      examples: what was made of them, perhaps several of a row.
      origin: file or split, for messages.
      notes: numpy arrays that only scoring and decoding need, such as the row of each example.
    """

    rows: Any
    examples: Examples
    origin: str
    notes: Mapping[str, np.ndarray] = field(default_factory=dict)


def keep_rows(rows: Any, keep: np.ndarray, origin: str) -> tuple[Any, int]:
    """The rows that have a known label, and how many have none.

    Raises:
      UserError: when there is none.
    """
    if not keep.any():
        raise UserError(f"{origin}: no row has a known label")
    return (rows if keep.all() else select_rows(rows, np.flatnonzero(keep))), int((~keep).sum())


class Task(abc.ABC):
    """A task with what it has learnt of the data (its labels); a frozen dataclass.

    Class attributes:
      kind: the Hugging Face name, which is also that of its head.
      metrics: name -> whether higher is better.
      changes_words: whether `prepare` gives the encoder other words in every step.
      by_chunks: whether some rows are encoded without looking at the others where there are no labels.
    """

    kind: ClassVar[str]
    metrics: ClassVar[Mapping[str, bool]]
    changes_words: ClassVar[bool] = False
    by_chunks: ClassVar[bool] = True

    @classmethod
    @abc.abstractmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """The task of a new run.

        Args:
          config: of the run.
          hf_config: config.json of the checkpoint, whose labels are kept where they fit.
          rows: training rows.
          origin: their file, for messages.
        """

    @classmethod
    @abc.abstractmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """The task of a fine-tuned model."""

    @classmethod
    @abc.abstractmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """The rows of a split (train, validation or test), checked; without labels for prediction."""

    @classmethod
    def texts(cls, rows: Any, config: Config) -> Iterator[str]:
        """The texts of all rows from `read`; lines and words are joined."""
        for column in cls.text_columns(config):
            for start in range(0, len(rows), CHUNK):
                for text in rows[start : start + CHUNK][column]:
                    yield " ".join(text) if isinstance(text, list) else text or ""

    @classmethod
    def text_columns(cls, config: Config) -> list[str]:
        """Columns of the rows from `read` that hold text, or lists of it."""
        return [column for column in (config.data.text, config.data.text_pair) if column]

    @classmethod
    def joins_rows(cls, config: Config) -> bool:
        """Whether an example may come of several rows, so that limits count what `encode` makes of them."""
        del config
        return False

    def without_unknown(self, rows: Any, config: Config, origin: str) -> tuple[Any, int]:
        """What is left of rows from `read` without labels that are not the task's, and how many labels were left out.

        Raises:
          UserError: for a task that has no set of labels, or where nothing is left.
        """
        raise UserError(f"data.unknown_labels is drop, but {self.kind} has no set of labels: leave it at error")

    def strata(self, rows: Any, config: Config, origin: str) -> Sequence[str]:
        """The label of each row, for a split that is stratified by it.

        Raises:
          UserError: for a task whose rows have no single label.
        """
        raise UserError(f"data.stratify: rows of {self.kind} have no single label to stratify by; leave it at false")

    def keeps(self, hf_config: Mapping[str, Any]) -> bool:
        """Whether the head of a checkpoint is this task's although its outputs are called otherwise.

        So it is where nobody named them (LABEL_0, LABEL_1 ...) and the task's labels are their numbers.
        """
        own = own_labels(hf_config, self.kind)
        return bool(own) and are_generic(own) and are_numbers(self.labels or (), len(own))

    @abc.abstractmethod
    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """Rows to examples.

        Args:
          rows: from `read`.
          tokenizer, directory: the tokenizer and where it came from.
          config: of the run.
          origin: the rows' file, for messages.
          labelled: whether the rows have labels, which then are checked.
        """

    def with_tokenizer(self, tokenizer: Any, directory: Path) -> Self:
        """The task with what it must know of the tokenizer, which came from this directory."""
        del tokenizer, directory
        return self

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Label names in the order of their ids; None for a head without labels."""
        return None

    @property
    def metric(self) -> str:
        """The metric that chooses the best model unless `eval.metric` does."""
        return next(iter(self.metrics))

    @property
    def config_fields(self) -> Mapping[str, Any]:
        """Fields of config.json that `restore` reads."""
        return {}

    def prepare(self, batch: Batch, key: Array | None) -> Batch:
        """Change a whole step's batch [K, R, ...] inside the program (masking); the same whatever the layout.

        Without a key the batch is one of prediction, in which nothing is drawn.
        """
        del key
        return batch

    @abc.abstractmethod
    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> WeightedSum:
        """The loss of a micro-batch as (sum, weight)."""

    @abc.abstractmethod
    def soft_loss(self, outputs: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> WeightedSum:
        """The distance from a teacher's outputs, with the weight of `loss`; a cross-entropy of probabilities."""

    @abc.abstractmethod
    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """What evaluation reads back of a batch: {"sums": ..., "examples": ..., "tokens": ...} (see `Collected`)."""

    @property
    def fitted(self) -> bool:
        """Whether nothing is left to `fit`."""
        return True

    def fit(self, collected: Collected, split: Split) -> Self:
        """The task with its thresholds set to the best on a (validation) split, where the user wants that."""
        del collected, split
        return self

    @abc.abstractmethod
    def scores(self, collected: Collected, split: Split) -> dict[str, Any]:
        """Metrics by name, perhaps with tables that only the journal shows; the loss only where it is not sum / weight."""

    def predict(self, outputs: Outputs, batch: Batch) -> Summary:
        """What prediction reads back of a batch."""
        return self.summarise(outputs, batch)

    @abc.abstractmethod
    def decode(self, collected: Collected, split: Split) -> Iterator[dict[str, Any]]:
        """A prediction for every row, in their order."""

    @classmethod
    def check_document(cls, rows: Any) -> None:
        """Refuse rows, from `read`, whose predictions do not fit into one `document`.

        Raises:
          UserError: naming such rows.
        """
        del rows

    def document(self, predictions: list[dict[str, Any]]) -> Any:
        """What a json file (not json lines) holds of what `decode` gave."""
        return predictions
