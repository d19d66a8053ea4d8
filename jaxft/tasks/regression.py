"""Text regression: one or several numbers per text or pair of texts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from jaxft import losses
from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.losses import OutputPair
from jaxft.models.model import are_generic
from jaxft.tasks.labels import head_labels, label_columns, numbers, problem_of, scores_by_name
from jaxft.tasks.metrics.regression import regression_scores
from jaxft.tasks.task import Batch, Outputs, Split
from jaxft.tasks.text_classification import LabelledTexts


@dataclass(frozen=True)
class Regression(LabelledTexts):
    """The task with the names of its targets; in a new run these are the names of their columns."""

    problem: ClassVar[str] = "regression"
    metrics: ClassVar[Mapping[str, bool]] = {"pearson": True, "spearman": True, "mse": False, "loss": False}
    smooths_labels: ClassVar[bool] = False
    names_labels: ClassVar[bool] = False

    @classmethod
    def row_labels(cls, rows: Any, config: Config, origin: str) -> list[tuple[str, ...]]:
        """The numbers of each row."""
        return [tuple(f"{x:.9g}" for x in row) for row in numbers(rows, label_columns(config.data), origin)]

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """One target per column of `data.label`."""
        return cls(tuple(label_columns(config.data)))

    def accepts_head(self, hf_config: Mapping[str, Any]) -> bool:
        """Whether it is a regression head with one output of any name, or as many outputs with generic names as targets."""
        own = head_labels(hf_config, self.kind)
        same_size = len(own) == len(self.names) and problem_of(hf_config, "single_label") == "regression"
        return same_size and (len(own) == 1 or are_generic(own))

    def encode_labels(self, rows: Any, config: Config, origin: str) -> np.ndarray:
        """The numbers, float32 [N, targets], from the columns with the targets' names, or else by their position."""
        columns = label_columns(config.data)
        if len(columns) != len(self.names):
            raise UserError(
                f"data.label names {len(columns)} columns ({', '.join(columns)}), but the model predicts "
                f"{len(self.names)} numbers ({', '.join(self.names)})"
            )
        return numbers(rows, self.names if set(columns) == set(self.names) else columns, origin)

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> losses.WeightedSum:
        """(squared error, mean over the targets, summed over the examples; number of examples)."""
        return losses.squared_error(outputs["logits"], batch["labels"], batch["weights"])

    def soft_pairs(self, outputs: Outputs, teacher: Outputs, batch: Batch) -> list[OutputPair]:
        """The numbers."""
        return [OutputPair("identity", outputs["logits"], teacher["logits"], batch["weights"])]

    def scores(self, summary: Summary, split: Split) -> dict[str, Any]:
        """Correlations and mean squared error."""
        return regression_scores(split.examples.columns["labels"], summary.examples["logits"], self.names)

    def gold(self, split: Split) -> list[dict[str, float]]:
        """The numbers by target."""
        return [scores_by_name(self.names, row) for row in split.examples.columns["labels"]]

    def predictions(self, summary: Summary, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """The predicted and the right numbers, float32 [N], or [N, targets] if there are several."""
        found, right = summary.examples["logits"], split.examples.columns["labels"]
        return (found[:, 0], right[:, 0]) if len(self.names) == 1 else (found, right)

    def decode(self, summary: Summary, split: Split) -> Iterator[dict[str, Any]]:
        """The predicted numbers by target."""
        for row in summary.examples["logits"]:
            yield {"scores": scores_by_name(self.names, row)}
