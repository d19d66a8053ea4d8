"""Text classification: one label for a text or a pair of texts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import losses
from jaxft.config import Config
from jaxft.data.collect import Collected
from jaxft.errors import UserError
from jaxft.metrics.classification import classification_scores
from jaxft.models.model import labels_of
from jaxft.tasks import texts
from jaxft.tasks.labels import known_labels, label_column, label_ids, label_names, label_values
from jaxft.tasks.task import Batch, Outputs, Split, Summary, Task

Array = jax.Array


@dataclass(frozen=True)
class TextClassification(Task):
    """The task with its labels.

    Attributes:
      names: of the labels, in the order of their ids.
      label_smoothing: of the training loss; evaluation has none.
    """

    names: tuple[str, ...]
    label_smoothing: float = 0.0

    kind: ClassVar[str] = "text-classification"
    metrics: ClassVar[Mapping[str, bool]] = {
        "accuracy": True,
        "f1": True,
        "macro_f1": True,
        "micro_f1": True,
        "mcc": True,
        "loss": False,
    }
    options: ClassVar[frozenset[str]] = frozenset({"labels"})

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """Labels are `task.labels`, or those of the training rows."""
        data, column = config.data, label_column(config.data)
        found = label_names(label_values(rows, column, origin))
        labels = config.task.labels or known_labels(hf_config, found)
        if len(labels) < 2:
            raise UserError(f'{data.train}: column "{column}" has only the label "{labels[0]}"; a classifier needs two')
        if config.eval.metric == "f1" and len(labels) != 2 and (data.validation or data.validation_share):
            raise UserError(f"eval.metric is f1, which needs two labels; this task has {len(labels)}: use macro_f1")
        return cls(tuple(labels), config.train.label_smoothing)

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """Labels are those of config.json."""
        return cls(tuple(labels_of(hf_config)))

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """Rows whose texts are not empty."""
        return texts.read(config.data, split, [label_column(config.data)] if labelled else [])

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """One example a row, with its label id."""
        examples = texts.encode(rows, tokenizer, directory, config.data, origin)
        if labelled:
            ids = label_ids(label_values(rows, label_column(config.data), origin), self.names, origin)
            examples = examples.with_columns(labels=ids)
        return Split(rows, examples, origin)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.names

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> losses.WeightedSum:
        """Cross-entropy summed over the batch's examples, and their number."""
        smoothing = self.label_smoothing if train else 0.0
        return losses.cross_entropy(outputs["logits"], batch["labels"], batch["weights"], smoothing)

    def soft_loss(self, outputs: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> losses.WeightedSum:
        """Cross-entropy against the teacher's softmax."""
        return losses.soft_cross_entropy(outputs["logits"], teacher["logits"], batch["weights"], temperature)

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The confusion matrix [gold, predicted] of a batch: all that the metrics need, however many examples there are."""
        classes = jnp.arange(len(self.names))[None, None]
        gold = (batch["labels"][..., None] == classes) * batch["weights"][..., None]
        predicted = jnp.argmax(outputs["logits"], -1)[..., None] == classes
        return {"sums": {"confusion": jnp.einsum("rmg,rmp->gp", gold, predicted.astype(gold.dtype))}}

    def scores(self, collected: Collected, split: Split) -> dict[str, Any]:
        """Accuracy, F1, MCC, and the confusion matrix as a table."""
        confusion = np.rint(collected.sums["confusion"]).astype(np.int64)
        return {**classification_scores(confusion), "confusion": confusion.tolist()}

    def predict(self, outputs: Outputs, batch: Batch) -> Summary:
        """Logits [labels] of each example."""
        return {"examples": {"logits": outputs["logits"]}}

    def decode(self, collected: Collected, split: Split) -> Iterator[dict[str, Any]]:
        """The likeliest label, its probability, and all of them."""
        for logits in collected.examples["logits"]:
            shifted = np.exp(logits.astype(np.float64) - logits.max())
            scores = shifted / shifted.sum()
            best = int(scores.argmax())
            yield {
                "label": self.names[best],
                "score": round(float(scores[best]), 6),
                "scores": {name: round(float(p), 6) for name, p in zip(self.names, scores, strict=True)},
            }
