"""Multi-label text classification: any number of labels per text, each a binary decision of its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit

from jaxft import losses
from jaxft.config import Config
from jaxft.core.errors import UserError, some
from jaxft.data.batching.collect import Summary
from jaxft.data.reading.row_numbers import row_names
from jaxft.losses import OutputPair
from jaxft.models.model import are_generic, as_stored_options, labels_of, stored_options
from jaxft.tasks.label_lists import label_lists, multi_hot
from jaxft.tasks.labels import (
    choose_labels,
    class_weights,
    head_labels,
    label_columns,
    label_ids,
    of_first_rows,
    scores_by_name,
)
from jaxft.tasks.metrics.classification import best_threshold, multi_label_scores
from jaxft.tasks.task import Batch, Outputs, Split
from jaxft.tasks.text_classification import LabelledTexts


@dataclass(frozen=True)
class MultiLabel(LabelledTexts):
    """The task with its labels.

    Attributes:
      threshold: the probability from which a label is predicted; None until `tune` sets it.
      positive_weights, focal_gamma: options of the training loss; evaluation uses plain cross-entropy.
    """

    threshold: float | None
    positive_weights: tuple[float, ...] | None = None
    focal_gamma: float = 0.0

    problem: ClassVar[str] = "multi_label"
    metrics: ClassVar[Mapping[str, bool]] = {
        **dict.fromkeys(("micro_f1", "macro_f1", "subset_accuracy", "roc_auc"), True),
        "loss": False,
    }
    smooths_labels: ClassVar[bool] = False

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """The labels are `task.labels`, the columns of 0 and 1, or those of the training rows."""
        data, where = config.data, f'{origin}: column "{label_columns(config.data)[0]}"'
        lists, declared = label_lists(rows, data, origin, config.task.labels)
        own = head_labels(hf_config, cls.kind)
        if declared and are_generic(declared) and len(own) == len(declared):  # multi-hot, in the order of the head's labels
            lists, declared = label_lists(rows, data, origin, own)
        found = {label for labels in lists for label in labels}
        labels = choose_labels(config, hf_config, cls.kind, declared, found, where)
        if len(labels) < 2:
            found = f"{where} has {len(labels)} label{'s' if not labels else ''}; multi-label needs two or more"
            raise UserError(found + of_first_rows(config))
        threshold = None if config.task.threshold == "tune" else config.task.threshold
        if threshold is None and not (data.validation or data.validation_share):
            raise UserError("task.threshold is tune, which needs data.validation or data.validation_share")
        hot, _ = multi_hot(lists, labels, row_names(rows, origin), drop=data.unknown_labels == "drop")
        counts = hot.sum(0, dtype=np.int64)
        weights = class_weights(config.task.class_weights, labels, counts, len(lists))
        return cls(tuple(labels), threshold, weights, config.task.focal_gamma)

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """The labels are those of config.json; so is the threshold if the option is "tune" (0.5 if config.json has none)."""
        labels, chosen = labels_of(hf_config), config.task.threshold
        if len(labels) < 2:
            raise UserError(f"config.json: one label ({labels[0]}); multi-label needs two or more")
        stored = stored_options(hf_config).get("threshold")
        own = 0.5 if stored is None else stored
        return cls(tuple(labels), float(own if chosen == "tune" else chosen))

    def drop_unknown_labels(self, rows: Any, config: Config, origin: str) -> tuple[Any, int]:
        """All rows, because `encode_labels` drops unknown labels from each row's list."""
        return rows, self._hot(rows, config, origin)[1]

    def _hot(self, rows: Any, config: Config, origin: str) -> tuple[np.ndarray, int]:
        """(0 or 1 for each label, the number of labels left out); if each label has a column, none may be missing."""
        if len(columns := label_columns(config.data)) > 1:
            given = set(label_ids(columns, self.names, row_names(rows, origin), unknown=-1).tolist())
            if missing := [name for i, name in enumerate(self.names) if i not in given]:
                raise UserError(f"data.label names no column for {some(missing)}: name one for each of the model's labels")
        lists, _ = label_lists(rows, config.data, origin, self.names)
        return multi_hot(lists, self.names, row_names(rows, origin), drop=config.data.unknown_labels == "drop")

    @classmethod
    def row_labels(cls, rows: Any, config: Config, origin: str) -> list[tuple[str, ...]]:
        """The labels of each row, sorted."""
        return [tuple(sorted(labels)) for labels in label_lists(rows, config.data, origin, config.task.labels)[0]]

    def encode_labels(self, rows: Any, config: Config, origin: str) -> np.ndarray:
        """0 or 1 for each label, int8 [N, labels]."""
        return self._hot(rows, config, origin)[0]

    @property
    def config_fields(self) -> Mapping[str, Any]:
        """Hugging Face's `problem_type`, and the threshold, for which Hugging Face has no field."""
        return {**super().config_fields, **as_stored_options({"threshold": self.threshold})}

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> losses.WeightedSum:
        """(sigmoid cross-entropy or focal loss, mean over the labels, summed over the examples; number of examples)."""
        positive, gamma = (self.positive_weights, self.focal_gamma) if train else (None, 0.0)
        return losses.sigmoid_cross_entropy(outputs["logits"], batch["labels"], batch["weights"], positive, gamma)

    def soft_pairs(self, outputs: Outputs, teacher: Outputs, batch: Batch) -> list[OutputPair]:
        """The logits of all labels."""
        return [OutputPair("sigmoid", outputs["logits"], teacher["logits"], batch["weights"])]

    @property
    def tuned(self) -> bool:
        """Whether the threshold is known."""
        return self.threshold is not None

    def tune(self, summary: Summary, split: Split) -> Self:
        """Set the threshold to the one with the best micro F1, if it is still to be tuned."""
        if self.tuned:
            return self
        return replace(self, threshold=best_threshold(_gold(split), _probabilities(summary)))

    def scores(self, summary: Summary, split: Split) -> dict[str, Any]:
        """F1, subset accuracy and ROC AUC, and a table of counts per label."""
        assert self.threshold is not None
        return multi_label_scores(_gold(split), _probabilities(summary), self.threshold, self.names)

    def gold(self, split: Split) -> list[list[str]]:
        """The names of each row's labels."""
        return [[self.names[i] for i in np.flatnonzero(row)] for row in _gold(split)]

    def predictions(self, summary: Summary, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """0 or 1 for each label, predicted and right, int64 [N, labels]."""
        assert self.threshold is not None
        return (_probabilities(summary) >= self.threshold).astype(np.int64), _gold(split).astype(np.int64)

    def decode(self, summary: Summary, split: Split) -> Iterator[dict[str, Any]]:
        """The labels whose probability reaches the threshold, and the probabilities of all labels."""
        assert self.threshold is not None
        for row in _probabilities(summary):
            given = [name for name, p in zip(self.names, row, strict=True) if p >= self.threshold]
            yield {"labels": given, "scores": scores_by_name(self.names, row)}


def _gold(split: Split) -> np.ndarray:
    return split.examples.columns["labels"] == 1


def _probabilities(summary: Summary) -> np.ndarray:
    return expit(summary.examples["logits"].astype(np.float64))
