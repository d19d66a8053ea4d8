"""Text classification with any number of labels a text: every label is a question of its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit

from jaxft import losses
from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Collected
from jaxft.data.reading.row_numbers import row_names
from jaxft.models.model import are_generic, labels_of
from jaxft.tasks import texts
from jaxft.tasks.label_lists import label_lists, multi_hot
from jaxft.tasks.labels import PROBLEM_TYPES, class_weights, label_columns, learnt_labels, no_smoothing, own_labels, shares
from jaxft.tasks.metrics.classification import best_threshold, multi_label_scores
from jaxft.tasks.task import Batch, Outputs, Split, Summary, Task


@dataclass(frozen=True)
class MultiLabel(Task):
    """The task with its labels.

    Attributes:
      names: of the labels, in the order of their ids.
      threshold: probability from which a label is given; None is tuned by `fit`.
      positive_weights, focal_gamma: of the training loss; evaluation has plain cross-entropy.
    """

    names: tuple[str, ...]
    threshold: float | None
    positive_weights: tuple[float, ...] | None = None
    focal_gamma: float = 0.0

    kind: ClassVar[str] = "text-classification"
    metrics: ClassVar[Mapping[str, bool]] = {
        "micro_f1": True,
        "macro_f1": True,
        "subset_accuracy": True,
        "roc_auc": True,
        "loss": False,
    }

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """Labels are `task.labels`, the columns of 0 and 1, or those of the training rows."""
        no_smoothing(config)
        data, columns = config.data, label_columns(config.data)
        lists, declared = label_lists(rows, data, origin, config.task.labels)
        own = own_labels(hf_config, cls.kind)
        if declared and are_generic(declared) and len(own) == len(declared):  # marks, in the order of the head's own labels
            lists, declared = label_lists(rows, data, origin, own)
        found = {label for labels in lists for label in labels}
        where = f'{origin}: column "{columns[0]}"'
        labels = learnt_labels(config, hf_config, declared, found, where)
        if len(labels) < 2:
            raise UserError(f'{origin}: column "{columns[0]}" has {len(labels)} labels; multi-label needs two or more')
        threshold = None if config.task.threshold == "tune" else config.task.threshold
        if threshold is None and not (data.validation or data.validation_share):
            raise UserError("task.threshold is tune, which needs data.validation or data.validation_share")
        counts = multi_hot(lists, labels, row_names(rows, origin), drop=_drops(config))[0].sum(0, dtype=np.int64)
        weights = class_weights(config.task.class_weights, labels, counts, len(lists))
        return cls(tuple(labels), threshold, weights, config.task.focal_gamma)

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """Labels are those of config.json, and so is the threshold (0.5 in Hugging Face's own models) where it is "tune"."""
        labels, chosen = labels_of(hf_config), config.task.threshold
        if len(labels) < 2:
            raise UserError(f"config.json: one label ({labels[0]}); multi-label needs two or more")
        stored = ((hf_config.get("task_specific_params") or {}).get("jaxft") or {}).get("threshold")
        own = 0.5 if stored is None else stored
        return cls(tuple(labels), float(own if chosen == "tune" else chosen))

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """Rows whose texts are not empty."""
        return texts.read(config.data, split, label_columns(config.data) if labelled else [])

    def without_unknown(self, rows: Any, config: Config, origin: str) -> tuple[Any, int]:
        """All rows: `encode` leaves out of their labels those that are not known."""
        return rows, self._hot(rows, config, origin)[1]

    def _hot(self, rows: Any, config: Config, origin: str) -> tuple[np.ndarray, int]:
        lists, _ = label_lists(rows, config.data, origin, self.names)
        return multi_hot(lists, self.names, row_names(rows, origin), drop=_drops(config))

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """One example a row, with 0 or 1 for each label."""
        examples = texts.encode(rows, tokenizer, directory, config.data, origin)
        if labelled:
            examples = examples.with_columns(labels=self._hot(rows, config, origin)[0])
        return Split(rows, examples, origin)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.names

    @property
    def config_fields(self) -> Mapping[str, Any]:
        """Hugging Face's `problem_type`, and the threshold, for which it has no field."""
        return {
            "problem_type": PROBLEM_TYPES["multi_label"],
            "task_specific_params": {"jaxft": {"threshold": self.threshold}},
        }

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> losses.WeightedSum:
        """Sigmoid cross-entropy (focal, if asked for), the mean over the labels, summed over examples; their number."""
        positive, gamma = (self.positive_weights, self.focal_gamma) if train else (None, 0.0)
        return losses.sigmoid_cross_entropy(outputs["logits"], batch["labels"], batch["weights"], positive, gamma)

    def soft_loss(self, outputs: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> losses.WeightedSum:
        """Cross-entropy against the teacher's sigmoids."""
        return losses.soft_sigmoid_cross_entropy(outputs["logits"], teacher["logits"], batch["weights"], temperature)

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """Logits [labels] of each example: the threshold and the ROC AUC need them all."""
        return {"examples": {"logits": outputs["logits"]}}

    @property
    def fitted(self) -> bool:
        """Whether there is a threshold."""
        return self.threshold is not None

    def fit(self, collected: Collected, split: Split) -> Self:
        """The threshold with the best micro F1, where it is to be tuned."""
        if self.fitted:
            return self
        return replace(self, threshold=best_threshold(_gold(split), _probabilities(collected)))

    def scores(self, collected: Collected, split: Split) -> dict[str, Any]:
        """F1, subset accuracy and ROC AUC, and counts by label as a table."""
        return multi_label_scores(_gold(split), _probabilities(collected), self._threshold(), self.names)

    def decode(self, collected: Collected, split: Split) -> Iterator[dict[str, Any]]:
        """The labels from the threshold on, and the probability of each."""
        threshold = self._threshold()
        for row in _probabilities(collected):
            given = [name for name, p in zip(self.names, row, strict=True) if p >= threshold]
            yield {"labels": given, "scores": shares(self.names, row)}

    def _threshold(self) -> float:
        if self.threshold is None:
            raise ValueError("fit first: the threshold is not tuned yet")
        return self.threshold


def _drops(config: Config) -> bool:
    return config.data.unknown_labels == "drop"


def _gold(split: Split) -> np.ndarray:
    return split.examples.columns["labels"] == 1


def _probabilities(collected: Collected) -> np.ndarray:
    return expit(collected.examples["logits"].astype(np.float64))
