"""Text regression: one or several numbers per text or pair of texts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from jaxft import losses
from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.models.model import are_generic, labels_of
from jaxft.tasks import texts
from jaxft.tasks.labels import PROBLEM_TYPES, head_labels, label_columns, no_smoothing, numbers, problem_of, scores_by_name
from jaxft.tasks.metrics.regression import regression_scores
from jaxft.tasks.task import Batch, Outputs, Split, Task


@dataclass(frozen=True)
class Regression(Task):
    """The task with the names of its targets; in a new run these are the names of their columns."""

    names: tuple[str, ...]

    kind: ClassVar[str] = "text-classification"
    metrics: ClassVar[Mapping[str, bool]] = {"pearson": True, "spearman": True, "mse": False, "loss": False}

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """One target per column of `data.label`."""
        no_smoothing(config)
        return cls(tuple(label_columns(config.data)))

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """The targets are the labels of config.json."""
        return cls(tuple(labels_of(hf_config)))

    def accepts_head(self, hf_config: Mapping[str, Any]) -> bool:
        """Whether it is a regression head with one output of any name, or as many outputs with generic names as targets."""
        own = head_labels(hf_config, self.kind)
        fits = len(own) == len(self.names) and problem_of(hf_config, "single_label") == "regression"
        return fits and (len(own) == 1 or are_generic(own))

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """The rows whose texts are not empty."""
        return texts.read(config.data, split, label_columns(config.data) if labelled else [])

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """One example per row; column `labels` float32 [N, targets]."""
        examples = texts.encode(rows, tokenizer, directory, config.data, origin)
        if labelled:
            examples = examples.with_columns(labels=numbers(rows, self.columns(config), origin))
        return Split(rows, examples, origin)

    def columns(self, config: Config) -> list[str]:
        """The column of each target: the one with its name, or the one at its position if `data.label` has other names.

        Raises:
          UserError: if the number of columns is not the number of targets.
        """
        columns = label_columns(config.data)
        if len(columns) != len(self.names):
            raise UserError(
                f"data.label names {len(columns)} columns ({', '.join(columns)}), but the model predicts "
                f"{len(self.names)} numbers ({', '.join(self.names)})"
            )
        return list(self.names) if set(columns) == set(self.names) else columns

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the targets."""
        return self.names

    @property
    def config_fields(self) -> Mapping[str, Any]:
        """Hugging Face's `problem_type`."""
        return {"problem_type": PROBLEM_TYPES["regression"]}

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> losses.WeightedSum:
        """(squared error, mean over the targets, summed over the examples; number of examples)."""
        return losses.squared_error(outputs["logits"], batch["labels"], batch["weights"])

    def soft_loss(self, outputs: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> losses.WeightedSum:
        """Squared distance from the teacher's numbers; the temperature has no effect."""
        return losses.squared_error(outputs["logits"], teacher["logits"], batch["weights"])

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The predicted numbers [R, M, targets]."""
        return Summary(examples={"logits": outputs["logits"]})

    def scores(self, summary: Summary, split: Split) -> dict[str, Any]:
        """Correlations and mean squared error."""
        return regression_scores(split.examples.columns["labels"], summary.examples["logits"], self.names)

    def decode(self, summary: Summary, split: Split) -> Iterator[dict[str, Any]]:
        """The predicted numbers by target."""
        for row in summary.examples["logits"]:
            yield {"scores": scores_by_name(self.names, row)}
