"""Multiple choice: which of several texts continues a context (SWAG, Zellers et al. 2018, arXiv:1808.05326)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from jaxft.data.reading.columns import column_values
from jaxft.data.reading.empty_texts import EMPTY, PLACEHOLDER
from jaxft.data.reading.row_numbers import row_names, row_numbers
from jaxft.losses import OutputPair
from jaxft.tasks import texts
from jaxft.tasks.labels import label_column, label_ids, label_values
from jaxft.tasks.task import AugmentableRows, Batch, Outputs, Split, Task

CONTEXT, ENDING = "context", "ending"  # columns of the rows that are tokenised, one row per choice


@dataclass(frozen=True)
class MultipleChoice(Task):
    """The task; the choices are in the data.

    Attributes:
      label_smoothing: an option of the training loss; evaluation has none.
    """

    label_smoothing: float = 0.0

    kind: ClassVar[str] = "multiple-choice"
    metrics: ClassVar[Mapping[str, bool]] = {"accuracy": True, "loss": False}
    chunkable: ClassVar[bool] = False  # the number of choices is the most frequent one over all rows

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """Nothing is learned from the data."""
        return cls(config.train.label_smoothing)

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """Nothing is stored in config.json."""
        return cls()

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """The rows whose context is not empty; the common beginning of the choices (`data.text_pair`) may be empty."""
        data = config.data
        if not data.choices:
            raise UserError("data.choices is not set: name the columns of the choices, or the one column that lists them")
        more = cls.text_columns(config)[1:]
        others = [*more, *([label_column(data)] if labelled else [])]
        kinds = dict.fromkeys(data.choices, list if len(data.choices) == 1 else str)
        return texts.read(data, split, others, [data.text], kinds, more)

    @classmethod
    def text_columns(cls, config: Config) -> list[str]:
        """The columns of the context, the beginning and the choices."""
        return [*super().text_columns(config), *(config.data.choices or [])]

    @classmethod
    def row_labels(cls, rows: Any, config: Config, origin: str) -> list[tuple[str, ...]]:
        """The right choice of each row as it is in the file."""
        return [(value,) for value in label_values(rows, label_column(config.data), origin)]

    @classmethod
    def file_rows(cls, rows: Any) -> np.ndarray:
        """Each row is one of the file."""
        return row_numbers(rows)

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """One example per row with one sequence per choice: the context, then the beginning and the choice."""
        import datasets

        data = config.data
        names, choices, invalid = _choices(rows, data.choices or [], origin, invalid_is_null=data.empty_texts == "null")
        starts = column_values(rows, data.text_pair) if data.text_pair else [""] * len(rows)
        flat = {
            CONTEXT: [context for context in column_values(rows, data.text) for _ in names],
            ENDING: [f"{start or ''} {end}".strip() for start, ends in zip(starts, choices, strict=True) for end in ends],
        }
        pairs = replace(data, text=CONTEXT, text_pair=ENDING)
        sequences, where = datasets.Dataset.from_dict(flat), row_names(rows, origin)
        examples = texts.encode(sequences, tokenizer, directory, pairs, origin, len(names), where)
        if labelled:
            examples = examples.with_columns(labels=_right_choices(rows, label_column(data), names, origin))
        return Split(rows, examples, origin, {EMPTY: invalid})

    def augmentable(self, rows: Any, config: Config, origin: str) -> AugmentableRows:
        """The context, the beginning and the choices."""
        return AugmentableRows(self, rows, TextFields(self.text_columns(config)))

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> losses.WeightedSum:
        """(cross-entropy over each example's choices, summed over the examples; number of examples)."""
        smoothing = self.label_smoothing if train else 0.0
        return losses.cross_entropy(_by_example(outputs, batch), batch["labels"], batch["weights"], smoothing)

    def soft_pairs(self, outputs: Outputs, teacher: Outputs, batch: Batch) -> list[OutputPair]:
        """The logits of each example's choices."""
        ours, theirs = _by_example(outputs, batch), _by_example(teacher, batch)
        return [OutputPair("softmax", ours, theirs, batch["weights"], batch.get("labels"))]

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The number of examples in a batch whose predicted choice is right."""
        best = jnp.argmax(_by_example(outputs, batch), -1)
        kept = {"predicted": best.astype(jnp.int32)} if self.keeps_predictions else {}
        return Summary(examples=kept, sums={"right": ((best == batch["labels"]) * batch["weights"]).sum()})

    def scores(self, summary: Summary, split: Split) -> dict[str, Any]:
        """Accuracy."""
        return {"accuracy": float(summary.sums["right"]) / len(split.examples)}

    def predictions(self, summary: Summary, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the predicted and the right choices, int64 [N]."""
        gold, predicted = split.examples.columns["labels"], summary.examples["predicted"]
        return predicted.astype(np.int64), gold.astype(np.int64)

    def predict(self, outputs: Outputs, batch: Batch) -> Summary:
        """The logits [R, M, choices]."""
        return Summary(examples={"logits": _by_example(outputs, batch)})

    def gold(self, split: Split) -> list[int]:
        """The number of each row's right choice."""
        return split.examples.columns["labels"].tolist()

    def decode(self, summary: Summary, split: Split) -> Iterator[dict[str, Any]]:
        """The number of the most probable choice, its probability, and the probabilities of all choices in order."""
        for logits in summary.examples["logits"]:
            scores = [float(f"{x:.9g}") for x in softmax(logits.astype(np.float64))]
            best = int(logits.argmax())
            yield {"choice": best, "score": scores[best], "scores": scores}


def _right_choices(rows: Any, column: str, names: Sequence[str], origin: str) -> np.ndarray:
    """The number of each row's right choice; names of a ClassLabel, such as A to D or 1 to 4, only give the order."""
    values = label_values(rows, column, origin)
    declared = label_names(rows.features[column]) or []
    of_choices = declared if len(declared) == len(names) and set(declared) != set(names) else names
    return label_ids(values, of_choices, row_names(rows, origin), advice="")


def _by_example(outputs: Outputs, batch: Batch) -> jax.Array:
    """Reshape logits [R, M * choices] to [R, M, choices]."""
    return outputs["logits"].reshape(*batch["weights"].shape, -1)


def _choices(
    rows: Any, columns: Sequence[str], origin: str, *, invalid_is_null: bool
) -> tuple[list[str], list[list[str]], np.ndarray]:
    """(names of the choices, the choices of every row, bool [rows] which rows are invalid).

    The names are the columns, or numbers if one column holds a list. An invalid row has no choices, or not the number of
    choices that most rows have; it gets the choices of another row, and its prediction is null (see
    `data/reading/empty_texts`).

    Raises:
      UserError: if a row is invalid and `invalid_is_null` is false; the message names the row.
    """
    listed = len(columns) == 1
    table = list(column_values(rows, columns[0]) if listed else zip(*(rows[c][:] for c in columns), strict=True))
    where = f'column "{columns[0]}"' if listed else f"the columns {', '.join(columns)}"
    counts = [_count(choices) for choices in table]
    complete = Counter(count for choices, count in zip(table, counts, strict=True) if count > 1 and count == len(choices))
    default = 2 if invalid_is_null and not any(table) else 0  # if all rows are empty
    size = len(columns) if not listed else complete.most_common(1)[0][0] if complete else default
    invalid = np.array([count != size or len(choices) != size for choices, count in zip(table, counts, strict=True)])
    if size < 2 and max(counts) >= 0:
        raise UserError(f"{origin}: {where} gives one choice; there must be two or more")
    if invalid.any() and (not invalid_is_null or size < 2):
        i = int(np.argmax(invalid))
        row = row_names(rows, origin)(i)
        if counts[i] < 0:
            raise UserError(f"{row} has {table[i]!r} in {where}: must be texts to choose from")
        raise UserError(f"{row} has {counts[i]} choices in {where}, not {size}: the number must not vary")
    other = [PLACEHOLDER] * size if invalid.all() else table[int(np.argmin(invalid))]
    found = [list(other if is_invalid else choices) for choices, is_invalid in zip(table, invalid, strict=True)]
    return [str(i) for i in range(size)] if listed else list(columns), found, invalid


def _count(choices: Any) -> int:
    """The number of texts to choose from; -1 if `choices` is not a list of texts."""
    if not isinstance(choices, list | tuple) or not all(isinstance(x, str | None) for x in choices):
        return -1
    return sum(bool(x and x.strip()) for x in choices)
