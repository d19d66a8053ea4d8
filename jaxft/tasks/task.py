"""The contract of a task: it turns rows into examples and defines the head, the loss, the scores and the predictions."""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.tree import Params
from jaxft.data.augmentation.fields import Fields
from jaxft.data.augmentation.mentions import Tagged
from jaxft.data.batching.collect import Summary
from jaxft.data.reading.columns import arrow_chunks, column_values
from jaxft.data.reading.empty_texts import EMPTY
from jaxft.data.reading.label_spelling import are_numbers
from jaxft.data.reading.row_numbers import RowName, row_names, select_rows
from jaxft.data.tokens.encode import Examples
from jaxft.losses import OutputPair, WeightedSum
from jaxft.models.model import MAIN, Model, are_generic
from jaxft.tasks import texts
from jaxft.tasks.labels import head_labels

Array = jax.Array
Outputs = Mapping[str, Array]
Batch = dict[str, Array]
Mixes = Literal["examples", "tokens"] | None


@dataclass(frozen=True)
class AugmentableRows:
    """Rows as augmentation edits them.

    Attributes:
      task: encodes the edited rows.
      rows: as many as before.
      fields: which texts are edited.
      tagged: the words and IOB2 tags of all rows, if they are sentences.
    """

    task: "Task"
    rows: Any
    fields: Fields
    tagged: Callable[[], Tagged] = tuple


@dataclass(frozen=True)
class Split:
    """One split of the data: training, validation or test.

    Attributes:
      rows: the `datasets.Dataset` that was read.
      examples: the tokenised examples; one row may give several.
      origin: the file or split, for error messages.
      notes: numpy arrays that only scoring and decoding need, such as the row of each example.
    """

    rows: Any
    examples: Examples
    origin: str
    notes: Mapping[str, np.ndarray] = field(default_factory=dict)


class Task(abc.ABC):
    """A task, with what it has learned from the data (its labels). Subclasses are frozen dataclasses.

    Methods take `config`, the config of the run; `hf_config`, the config.json of the model; `rows`, a `datasets.Dataset`
    that `read` gave; and `origin`, the file of the rows, for error messages.

    Class attributes:
      kind: the Hugging Face task name, which also names its head.
      metrics: name -> whether higher is better.
      perfect: the best possible value of its main metric, if higher is better.
      options: the fields of `TaskConfig` that a custom task honours; for jaxft's tasks the types of these fields say it.
      smooths_labels: whether its loss honours `train.label_smoothing`.
      masks_inputs: whether `prepare` changes the input ids in every step.
      mixes: whose `labels` mixup mixes: those of examples or tokens; None if they cannot be mixed.
      chunkable: whether rows without labels can be encoded in chunks, without looking at the other rows.
      names_labels: whether `row_labels` are names that can be counted, not numbers.
      tags_words: whether the `row_labels` of a row are the tags of its words that are not empty.
      keeps_predictions: whether `summarise` keeps what `predictions` needs; functions of them in `eval.metrics` set it.
      needs_all_rows: whether its loss compares the examples of a micro-batch; by default if it is not jaxft's.
      has_own_loss: whether `task.loss` has replaced its loss, whose weight need not be that of `text_weights`.
      cleans_texts: whether `read` cleans texts as `data.clean` says; a class that defines `read` says it for itself.
    """

    kind: ClassVar[str]
    metrics: ClassVar[Mapping[str, bool]]
    perfect: ClassVar[float] = 1.0
    options: ClassVar[frozenset[str]] = frozenset()
    smooths_labels: ClassVar[bool] = True
    masks_inputs: ClassVar[bool] = False
    mixes: ClassVar[Mixes] = None
    chunkable: ClassVar[bool] = True
    names_labels: ClassVar[bool] = True
    tags_words: ClassVar[bool] = False
    cleans_texts: ClassVar[bool] = False
    keeps_predictions: ClassVar[bool] = False
    needs_all_rows: ClassVar[bool] = False
    has_own_loss: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        own = not cls.__module__.startswith("jaxft.") and vars(cls).keys() & {"loss", "run_model"}
        cls.needs_all_rows = vars(cls).get("needs_all_rows", bool(own) or cls.needs_all_rows)

    @classmethod
    @abc.abstractmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """Make the task of a new run from the training rows; labels of the checkpoint are kept if they match."""

    @classmethod
    @abc.abstractmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """Make the task of a fine-tuned model from its config.json."""

    @classmethod
    @abc.abstractmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """Read and check the rows of a split (train, validation or test); without labels for prediction."""

    @classmethod
    def texts(cls, rows: Any, config: Config) -> Iterator[str]:
        """Yield the texts of all rows; lists of lines or words are joined by spaces."""
        for column in cls.text_columns(config):
            for text in column_values(rows, column):
                yield " ".join(text) if isinstance(text, list) else text or ""

    @classmethod
    def text_columns(cls, config: Config) -> list[str]:
        """The columns of the rows that hold texts or lists of texts."""
        return texts.columns(config.data)

    @classmethod
    def joins_rows(cls, config: Config) -> bool:
        """Whether an example may come from several rows, so that limits count examples instead of rows."""
        return False

    def drop_unknown_labels(self, rows: Any, config: Config, origin: str) -> tuple[Any, int]:
        """(the rows without the labels that the task does not know, the number of these labels).

        Raises:
          UserError: if the task has no set of labels, or nothing remains.
        """
        raise UserError(f"data.unknown_labels is drop, but {self.kind} has no set of labels: leave it at error")

    def strata(self, rows: Any, config: Config, origin: str) -> Sequence[str]:
        """The label of each row, to stratify a split.

        Raises:
          UserError: if the rows of this task do not have a single label each.
        """
        raise UserError(f"data.stratify: rows of {self.kind} have no single label to stratify by; leave it at false")

    @classmethod
    def row_labels(cls, rows: Any, config: Config, origin: str) -> list[tuple[str, ...]] | None:
        """The labels of every row, one or several, as texts; None if the rows of this task have none."""
        return None

    @classmethod
    def row_names(cls, rows: Any, origin: str) -> RowName:
        """Names the rows in messages, such as `a.csv: row 3`."""
        return row_names(rows, origin)

    @classmethod
    def file_rows(cls, rows: Any) -> np.ndarray | None:
        """The row of the file, from 1 and counted through all files, that each row is made from, int [rows].

        None if rows are made of several, or of something else. A class that defines `read` says it for itself.
        """
        return None

    @classmethod
    def file_tables(cls, rows: Any, config: Config) -> Iterator[Any]:
        """The rows that `read` gave as Arrow tables with the columns of a file that the same config reads."""
        return arrow_chunks(rows, [name for name in rows.column_names if name != EMPTY])

    def accepts_head(self, hf_config: Mapping[str, Any]) -> bool:
        """Whether a checkpoint's head can be kept although its outputs have other names.

        It can if they have generic names (LABEL_0, LABEL_1 ...) and the task's labels are their numbers.
        """
        own = head_labels(hf_config, self.kind)
        return bool(own) and are_generic(own) and are_numbers(self.labels or (), len(own))

    def augmentable(self, rows: Any, config: Config, origin: str) -> AugmentableRows:
        """The training rows for augmentation.

        Raises:
          UserError: if steps cannot edit the texts of this task.
        """
        raise UserError(f"augment.steps: no step can edit the texts of {self.kind}: leave the list empty")

    def rows_of_examples(self, split: Split) -> np.ndarray:
        """The row of each example of a split that `encode` gave, ascending, int64 [N]."""
        return np.arange(len(split.examples))

    def free_pieces(self, examples: Examples, tokenizer: Any) -> np.ndarray:
        """Whether augmentation may mask each token, bool [total]: all but special tokens, and what decides a label."""
        return ~np.isin(examples.tokens["input_ids"], tokenizer.all_special_ids)

    def without_labels(self, split: Split) -> Split:
        """A split that was encoded without labels, with what `soft_pairs` needs: students learn from a teacher alone."""
        return split

    @abc.abstractmethod
    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """Tokenise rows into examples, with a tokenizer from `directory`; labels, if the rows have them, are checked."""

    def with_tokenizer(self, tokenizer: Any, directory: Path) -> Self:
        """A copy of the task with what it needs from the tokenizer, which was loaded from `directory`."""
        return self

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The label names in the order of their ids; None for a head without labels."""
        return None

    @property
    def metric(self) -> str:
        """The metric that chooses the best model unless `eval.metric` does."""
        return next(iter(self.metrics))

    @property
    def config_fields(self) -> Mapping[str, Any]:
        """The fields of config.json that `restore` reads."""
        return {}

    def prepare(self, batch: Batch, key: Array | None) -> Batch:
        """Change the batch of a whole step, arrays [K, R, ...], inside the jitted program (masking).

        It is independent of the layout. New arrays [K, n] belong to all rows. Without a key, nothing is random: prediction.
        """
        return batch

    def run_model(self, model: Model, params: Params, inputs: Batch, **options: Any) -> dict[str, Array]:
        """The outputs of a model for a micro-batch that the other methods take; `options` are those of `Model.apply`."""
        return model.apply(params, inputs, head=MAIN, **options)

    @abc.abstractmethod
    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> WeightedSum:
        """The loss of a micro-batch as (sum, weight), both scalars."""

    @abc.abstractmethod
    def soft_pairs(self, outputs: Outputs, teacher: Outputs, batch: Batch) -> list[OutputPair]:
        """Outputs that distillation compares, with weights of the same sum as that of `loss`; all of them are added."""

    def text_weights(self, batch: Batch) -> Array:
        """The weight of each text (each segment of a packed row) in the loss of a micro-batch, float32 [R, M].

        Their sum is the weight of `loss`. M are the slots of `first_token`; an example of several texts divides its weight
        among them. A task whose weight does not count examples says it for itself.
        """
        weights = batch["weights"]
        texts = batch["first_token"].shape[1] // weights.shape[1]
        return jnp.repeat(weights, texts, axis=1) / texts

    @abc.abstractmethod
    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """What evaluation reads back from a batch."""

    @property
    def tuned(self) -> bool:
        """Whether there is nothing left to `tune`."""
        return True

    def tune(self, summary: Summary, split: Split) -> Self:
        """A copy of the task whose thresholds are tuned on a (validation) split, if the config asks for it."""
        return self

    @abc.abstractmethod
    def scores(self, summary: Summary, split: Split) -> dict[str, Any]:
        """Metrics by name.

        They may include tables, which only the journal shows, and `loss` if it is not the sum over the weight.
        """

    def gold(self, split: Split) -> Sequence[Any] | None:
        """The right answer of each row of a labelled split, in the form of `decode`'s; None if rows have none."""
        return None

    @property
    def has_gold(self) -> bool:
        """Whether rows have right answers of the form of the predictions."""
        return type(self).gold is not Task.gold

    def predictions(self, summary: Summary, split: Split) -> tuple[Any, Any]:
        """(predictions, references) of a split for metrics that are functions of both, in the order of the rows.

        Raises:
          UserError: if the task has none.
        """
        raise UserError(
            f"eval.metrics: {self.kind} has no metrics of (predictions, references), only of (task, summary, split)"
        )

    def predict(self, outputs: Outputs, batch: Batch) -> Summary:
        """What prediction reads back from a batch (see `summarise`)."""
        return self.summarise(outputs, batch)

    @abc.abstractmethod
    def decode(self, summary: Summary, split: Split) -> Iterator[dict[str, Any]]:
        """Yield one prediction per row, in the order of the rows."""

    @classmethod
    def check_document(cls, rows: Any) -> None:
        """Check that the predictions for rows can be written as one `document`.

        Raises:
          UserError: if they cannot; the message names the rows.
        """
        del rows

    def document(self, predictions: list[dict[str, Any]]) -> Any:
        """The content of a json file (not json lines) with the predictions that `decode` gave."""
        return predictions


def select_known_rows(rows: Any, keep: np.ndarray, origin: str) -> tuple[Any, int]:
    """(the rows that have a known label, the number of the others); `keep` says which have one, bool [rows].

    Raises:
      UserError: if no row has a known label.
    """
    if not keep.any():
        raise UserError(f"{origin}: no row has a known label")
    return (rows if keep.all() else select_rows(rows, np.flatnonzero(keep))), int((~keep).sum())
