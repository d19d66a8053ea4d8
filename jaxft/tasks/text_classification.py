"""Text classification: one label for a text or a pair of texts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import losses
from jaxft.config import DataConfig
from jaxft.data.encode import Examples, encode_texts, per_row
from jaxft.data.sources import read_rows
from jaxft.errors import UserError, some
from jaxft.metrics import ClassificationCounts

KIND = "text-classification"
Array = jax.Array


@dataclass(frozen=True)
class TextClassification:
    """The task with its labels.

    Attributes:
      labels: names in the order of their ids.
      label_smoothing: of the training loss; evaluation has none.
    """

    labels: tuple[str, ...]
    label_smoothing: float = 0.0

    def loss(self, outputs: Mapping[str, Array], batch: Mapping[str, Array], train: bool) -> losses.WeightedSum:
        """Cross-entropy summed over the batch's examples, and their number."""
        smoothing = self.label_smoothing if train else 0.0
        return losses.cross_entropy(outputs["logits"], batch["labels"], batch["weights"], smoothing)

    def summarise(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """What evaluation reads back: int32 [R, M] gold and predicted labels, and which slots are filled."""
        predicted = jnp.argmax(outputs["logits"], -1).astype(jnp.int32)
        return {"gold": batch["labels"], "predicted": predicted, "example": batch["example"]}

    def counts(self) -> ClassificationCounts:
        """An empty record for an evaluation."""
        return ClassificationCounts.empty(len(self.labels))

    def count(self, counts: ClassificationCounts, summary: Mapping[str, np.ndarray]) -> None:
        """Add the summary of a batch."""
        real = summary["example"] >= 0
        counts.add(summary["gold"][real], summary["predicted"][real], float(summary["loss_sum"]), float(summary["weight"]))

    def decode(self, logits: np.ndarray) -> dict[str, Any]:
        """A prediction for one example from its logits [labels]."""
        shifted = np.exp(logits.astype(np.float64) - logits.max())
        scores = shifted / shifted.sum()
        best = int(scores.argmax())
        return {
            "label": self.labels[best],
            "score": round(float(scores[best]), 6),
            "scores": {name: round(float(p), 6) for name, p in zip(self.labels, scores, strict=True)},
        }


def columns(config: DataConfig) -> list[str]:
    """Text columns that must be there."""
    return [config.text] + ([config.text_pair] if config.text_pair else [])


def read(config: DataConfig, split: str, *, labelled: bool = True) -> Any:
    """A split's rows, with empty texts refused or dropped."""
    rows = read_rows(config, split, needed=[*columns(config), *([config.label] if labelled else [])])
    return _without_empty(rows, config, str(getattr(config, split)))


def encode(rows: Any, tokenizer: Any, directory: Any, config: DataConfig, origin: str) -> Examples:
    """Rows to token ids."""
    return encode_texts(
        rows,
        tokenizer,
        directory,
        text=config.text,
        text_pair=config.text_pair,
        max_length=config.max_length,
        truncation=config.truncation,
        use_cache=config.cache,
        origin=origin,
    )


def label_values(rows: Any, column: str, origin: str) -> list[str]:
    """The label column as text: the name behind a ClassLabel, `1` for 1 and 1.0.

    Raises:
      UserError: for a missing label, naming its row.
    """
    names = getattr(rows.features[column], "names", None)

    def text(value: Any) -> str:
        if names is not None and isinstance(value, int) and 0 <= value < len(names):
            return names[value]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        return "" if missing else str(value).strip()

    values = per_row(rows, column, text)
    for number, value in enumerate(values, 1):
        if not value:
            raise UserError(f'{origin}: row {number} has no label in column "{column}"')
    return values


def label_names(values: Sequence[str]) -> list[str]:
    """The label set of the training data: numbers in their order, otherwise sorted by name."""
    distinct = sorted(set(values))
    return sorted(distinct, key=int) if all(_is_number(v) for v in distinct) else distinct


def label_ids(values: Sequence[str], names: Sequence[str], origin: str) -> np.ndarray:
    """Labels, by name or by number, as int32 ids.

    Raises:
      UserError: for a label that is not one of `names`, naming its row.
    """
    ids = {name: i for i, name in enumerate(names)}
    if not any(_is_number(name) for name in names):
        ids |= {str(i): i for i in range(len(names))}
    for number, value in enumerate(values, 1):
        if value not in ids:
            kinds = ""
            if all(_is_number(name) for name in names) and not _is_number(value):
                kinds = "; the known labels are numbers and this one is text"
            raise UserError(
                f'{origin}: row {number} has the label "{value}", which is not one of the {len(names)} known labels '
                f"({some(list(names))}){kinds}"
            )
    return np.asarray([ids[value] for value in values], np.int32)


def _is_number(value: str) -> bool:
    return value.removeprefix("-").isdecimal()


def _without_empty(rows: Any, config: DataConfig, origin: str) -> Any:
    keep = np.ones(len(rows), bool)
    for column in columns(config):
        for i, value in enumerate(per_row(rows, column, lambda x: x)):
            if value is not None and not isinstance(value, str):
                raise UserError(f'{origin}: row {i + 1} has {value!r} in column "{column}": must be text')
            if value is None or not value.strip():
                if config.empty_texts == "error":
                    raise UserError(
                        f'{origin}: row {i + 1} has an empty text in column "{column}" (data.empty_texts drop leaves such '
                        "rows out)"
                    )
                keep[i] = False
    if not keep.any():
        raise UserError(f"{origin}: every text is empty")
    return rows if keep.all() else rows.select(np.flatnonzero(keep))
