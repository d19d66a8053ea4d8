"""Text classification: one label per text or pair of texts; and what other problems with labelled texts share with it."""

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from jaxft import losses
from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.augmentation.fields import TextFields
from jaxft.data.batching.collect import Summary
from jaxft.data.reading.class_labels import label_names
from jaxft.data.reading.row_numbers import row_names, row_numbers
from jaxft.losses import OutputPair
from jaxft.models.model import labels_of
from jaxft.tasks import texts
from jaxft.tasks.labels import (
    PROBLEM_TYPES,
    choose_labels,
    class_weights,
    label_column,
    label_columns,
    label_ids,
    label_values,
    of_first_rows,
    scores_by_name,
)
from jaxft.tasks.metrics.classification import SparseConfusion, classification_scores, label_scores, roc_auc
from jaxft.tasks.task import AugmentableRows, Batch, Mixes, Outputs, Split, Task, select_known_rows

MAX_DENSE_LABELS = 64  # with at most this many labels, evaluation sums a dense confusion matrix


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
    mixes: ClassVar[Mixes] = "examples"
    problem: ClassVar[str]

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """The labels are those of config.json."""
        return cls(tuple(labels_of(hf_config)))

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """The rows whose texts are not empty."""
        return texts.read(config.data, split, label_columns(config.data) if labelled else [])

    @classmethod
    def file_rows(cls, rows: Any) -> np.ndarray:
        """Each row is one of the file."""
        return row_numbers(rows)

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """One example per row, with the column `labels` of `encode_labels`."""
        examples = texts.encode(rows, tokenizer, directory, config.data, origin)
        if labelled:
            examples = examples.with_columns(labels=self.encode_labels(rows, config, origin))
        return Split(rows, examples, origin)

    def augmentable(self, rows: Any, config: Config, origin: str) -> AugmentableRows:
        """The texts."""
        return AugmentableRows(self, rows, TextFields(self.text_columns(config)))

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


@dataclass(frozen=True)
class TextClassification(LabelledTexts):
    """The task with its labels.

    Attributes:
      label_smoothing, class_weights, focal_gamma: options of the training loss; evaluation uses plain cross-entropy.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    focal_gamma: float = 0.0

    problem: ClassVar[str] = "single_label"
    metrics: ClassVar[Mapping[str, bool]] = {
        **dict.fromkeys(("accuracy", "f1", "macro_f1", "micro_f1", "mcc", "roc_auc"), True),
        "loss": False,
    }

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """The labels are `task.labels`, or those of the training rows."""
        data, column = config.data, label_column(config.data)
        values = label_values(rows, column, origin)
        where = f'{origin}: column "{column}"'
        declared = label_names(rows.features[column]) or []
        labels = choose_labels(config, hf_config, cls.kind, declared, set(values), where)
        if len(labels) < 2:
            only = f'{data.train}: column "{column}" has only the label "{labels[0]}"; a classifier needs two'
            raise UserError(only + of_first_rows(config))
        metric = config.eval.metric
        if metric in ("f1", "roc_auc") and len(labels) != 2 and (data.validation or data.validation_share):
            raise UserError(f"eval.metric is {metric}, which needs two labels; this task has {len(labels)}: use macro_f1")
        others = len(labels) if data.unknown_labels == "drop" else None
        ids = label_ids(values, labels, row_names(rows, origin), unknown=others)
        counts = np.bincount(ids, minlength=len(labels))[: len(labels)]
        weights = class_weights(config.task.class_weights, labels, counts)
        return cls(tuple(labels), config.train.label_smoothing, weights, config.task.focal_gamma)

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """The rows whose texts are not empty."""
        return texts.read(config.data, split, [label_column(config.data)] if labelled else [])

    def drop_unknown_labels(self, rows: Any, config: Config, origin: str) -> tuple[Any, int]:
        """The rows whose label is known."""
        return select_known_rows(rows, self.encode_labels(rows, config, origin, unknown=-1) >= 0, origin)

    def strata(self, rows: Any, config: Config, origin: str) -> Sequence[str]:
        """The label name of each row."""
        return [self.names[i] for i in self.encode_labels(rows, config, origin)]

    @classmethod
    def row_labels(cls, rows: Any, config: Config, origin: str) -> list[tuple[str, ...]]:
        """The label of each row as it is in the file."""
        return [(value,) for value in label_values(rows, label_column(config.data), origin)]

    def encode_labels(self, rows: Any, config: Config, origin: str, unknown: int | None = None) -> np.ndarray:
        """The label ids, int32 [N]; `unknown` for labels that the task does not know, which are an error if it is None."""
        values = label_values(rows, label_column(config.data), origin)
        return label_ids(values, self.names, row_names(rows, origin), unknown=unknown)

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> losses.WeightedSum:
        """(cross-entropy or focal loss summed over the examples, their number or the sum of their class weights)."""
        logits, labels, weights = outputs["logits"], batch["labels"], batch["weights"]
        if not train:
            return losses.cross_entropy(logits, labels, weights)
        return losses.cross_entropy(logits, labels, weights, self.label_smoothing, self.class_weights, self.focal_gamma)

    def soft_pairs(self, outputs: Outputs, teacher: Outputs, batch: Batch) -> list[OutputPair]:
        """The logits of the labels; examples have the same weights as in `loss`."""
        weights = self.text_weights(batch)
        return [OutputPair("softmax", outputs["logits"], teacher["logits"], weights, batch.get("labels"))]

    def text_weights(self, batch: Batch) -> jax.Array:
        """1, or the class weight of the example's label."""
        weights = batch["weights"]
        return weights if self.class_weights is None else weights * jnp.asarray(self.class_weights)[batch["labels"]]

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The confusion matrix [gold, predicted] of a batch; with two labels also `margin` [R, M], the logit difference.

        With more than MAX_DENSE_LABELS labels it is the predicted label of each example instead, because the matrix would be
        larger than the data it counts.
        """
        best = jnp.argmax(outputs["logits"], -1)
        predicted = {"predicted": best.astype(jnp.int32)}
        if len(self.names) > MAX_DENSE_LABELS:
            return Summary(examples=predicted)
        classes = jnp.arange(len(self.names))[None, None]
        gold = (batch["labels"][..., None] == classes) * batch["weights"][..., None]
        chosen = best[..., None] == classes
        sums = {"confusion": jnp.einsum("rmg,rmp->gp", gold, chosen.astype(gold.dtype))}
        margin = {"margin": outputs["logits"][..., 1] - outputs["logits"][..., 0]} if len(self.names) == 2 else {}
        return Summary(examples=margin | (predicted if self.keeps_predictions else {}), sums=sums)

    def predictions(self, summary: Summary, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the predicted and the right labels, int64 [N]."""
        gold, predicted = split.examples.columns["labels"], summary.examples["predicted"]
        return predicted.astype(np.int64), gold.astype(np.int64)

    def scores(self, summary: Summary, split: Split) -> dict[str, Any]:
        """Accuracy, F1 and MCC, with two labels the ROC AUC of the second; tables of scores per label and of confusions."""
        if len(self.names) > MAX_DENSE_LABELS:
            gold, predicted = split.examples.columns["labels"], summary.examples["predicted"]
            confusion = SparseConfusion.count(gold, predicted, len(self.names))
        else:
            confusion = SparseConfusion.of_matrix(np.rint(summary.sums["confusion"]).astype(np.int64))
        scores: dict[str, Any] = classification_scores(confusion)
        if len(self.names) == 2:
            scores["roc_auc"] = roc_auc(split.examples.columns["labels"] == 1, summary.examples["margin"])
        return {**scores, **label_scores(confusion, self.names), **confusion.tables(self.names)}

    def gold(self, split: Split) -> Sequence[str]:
        """The name of each row's label."""
        return [self.names[i] for i in split.examples.columns["labels"]]

    def predict(self, outputs: Outputs, batch: Batch) -> Summary:
        """The logits [R, M, labels]."""
        return super().summarise(outputs, batch)

    def decode(self, summary: Summary, split: Split) -> Iterator[dict[str, Any]]:
        """The most probable label, its probability, and the probabilities of all labels."""
        for logits in summary.examples["logits"]:
            scores = softmax(logits.astype(np.float64))
            best = int(scores.argmax())
            shown = scores_by_name(self.names, scores)
            yield {"label": self.names[best], "score": shown[self.names[best]], "scores": shown}
