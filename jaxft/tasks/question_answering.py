"""Extractive question answering: find the span of a context that answers a question, or say there is none (SQuAD 1, 2)."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import losses
from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.augmentation.fields import QuestionFields
from jaxft.data.batching.collect import Summary
from jaxft.data.cleaning.cleaner import own_span
from jaxft.data.formats.questions import OWN_ANSWERS, OWN_CONTEXT, STAGES
from jaxft.data.formats.squad import read_questions
from jaxft.data.reading.columns import arrow_chunks, column_values, map_column
from jaxft.data.reading.row_numbers import RowName
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.questions import encode_questions
from jaxft.losses import OutputPair
from jaxft.models.model import as_stored_options, stored_options
from jaxft.tasks.answer_candidates import Answer, RankedAnswers, best_spans, rank_answers
from jaxft.tasks.metrics.squad import best_null_threshold, squad_scores
from jaxft.tasks.task import AugmentableRows, Batch, Outputs, Split, Task

SIDES = ("start", "end")


@dataclass(frozen=True)
class QuestionAnswering(Task):
    """The task with the options that choose an answer.

    Attributes:
      n_best: the number of starts and ends kept per window, and of answers kept per question.
      max_answer_length: in tokens.
      unanswerable: whether a question may have no answer.
      null_threshold: a question has no answer if its null odds are above this; None until it is tuned.
    """

    n_best: int = 20
    max_answer_length: int = 30
    unanswerable: bool = False
    null_threshold: float | None = None

    kind: ClassVar[str] = "question-answering"
    metrics: ClassVar[Mapping[str, bool]] = {"f1": True, "exact_match": True, "loss": False}
    perfect: ClassVar[float] = 100.0
    smooths_labels: ClassVar[bool] = False

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """All options are in the config; nothing is learned from the data."""
        return cls.restore(config, {})

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """Options that the config does not set (`unanswerable`, the threshold) are taken from config.json."""
        task, stored = config.task, stored_options(hf_config)
        return cls(
            task.n_best,
            task.max_answer_length,
            unanswerable=task.unanswerable or bool(stored.get("unanswerable")),
            null_threshold=stored.get("null_threshold") if task.null_threshold == "tune" else float(task.null_threshold),
        )

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """One row per question."""
        return read_questions(config.data, split, labelled=labelled, misplaced=config.task.misplaced_answers)

    @classmethod
    def text_columns(cls, config: Config) -> list[str]:
        """The column names that `read` gives."""
        return ["question", "context"]

    @classmethod
    def row_labels(cls, rows: Any, config: Config, origin: str) -> list[tuple[str, ...]]:
        """Whether each question has an answer."""
        return [("answer",) if texts else ("no answer",) for texts in _gold_answers(rows)]

    @classmethod
    def row_names(cls, rows: Any, origin: str) -> RowName:
        """Questions are named by their ids."""
        return lambda row: f'{origin}: question "{rows[row]["id"]}"'

    @classmethod
    def file_tables(cls, rows: Any, config: Config) -> Iterator[Any]:
        """One row per question, with its answers as on the hub."""
        data = config.data
        names = [data.id, data.question, data.context, data.answers]
        tables = arrow_chunks(rows, ["id", "question", "context", "answers"])
        return (table.replace_schema_metadata().rename_columns(names) for table in tables)

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """One example per window of a question's context."""
        if labelled and not self.unanswerable:
            for key, texts in zip(map_column(rows, "id", str), _gold_answers(rows), strict=True):
                if not texts:
                    raise UserError(
                        f'{origin}: question "{key}" has no answer; if that is allowed, set task.unanswerable to true'
                    )
        examples, notes = encode_questions(rows, tokenizer, directory, config.data, origin, labelled=labelled)
        return Split(rows, examples, origin, notes)

    def augmentable(self, rows: Any, config: Config, origin: str) -> AugmentableRows:
        """Questions, and contexts without their answers."""
        return AugmentableRows(self, rows.select_columns(["id", "question", "context", "answers"]), QuestionFields())

    def rows_of_examples(self, split: Split) -> np.ndarray:
        """The question of each window."""
        return np.asarray(split.notes["question"])

    def free_pieces(self, examples: Examples, tokenizer: Any) -> np.ndarray:
        """All but special tokens and the answers."""
        free, starts = super().free_pieces(examples, tokenizer), examples.starts
        for first, last in zip(*(starts + examples.columns[f"{side}_positions"] for side in SIDES), strict=True):
            free[first : last + 1] = False
        return free

    @property
    def config_fields(self) -> Mapping[str, Any]:
        """Whether a question may have no answer, and the threshold."""
        own: dict[str, Any] = {"unanswerable": self.unanswerable}
        if self.unanswerable:
            own["null_threshold"] = self.threshold
        return as_stored_options(own)

    @property
    def threshold(self) -> float | None:
        """The null odds above which there is no answer, 0 until tuned, as in Hugging Face's script; None if unused."""
        return (self.null_threshold or 0.0) if self.unanswerable else None

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> losses.WeightedSum:
        """(mean of start and end cross-entropy over each window's own tokens, summed over windows; number of windows).

        A window has weight 0 if the position of its answer is unknown.
        """
        total = jnp.zeros(())
        for side in SIDES:
            index = batch["first_token"] + batch[f"{side}_positions"]
            total += losses.cross_entropy(_own_token_logits(outputs, side, batch), index, _window_weights(batch))[0]
        return total / 2, _window_weights(batch).sum()

    def soft_pairs(self, outputs: Outputs, teacher: Outputs, batch: Batch) -> list[OutputPair]:
        """The logits of the first and of the last token of the answer, over each window's own tokens; half of each loss."""
        pairs = []
        for side in SIDES:
            ours, theirs = (_own_token_logits(x, side, batch) for x in (outputs, teacher))
            position = batch.get(f"{side}_positions")
            index = None if position is None else batch["first_token"] + position
            pairs.append(OutputPair("softmax", ours, theirs, _window_weights(batch), index, share=0.5, between=False))
        return pairs

    def text_weights(self, batch: Batch) -> jax.Array:
        """1 for a window whose label is known."""
        return _window_weights(batch)

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The `n_best` start and end tokens of each window, [R, M, n_best], and the score of no answer, [R, M].

        Only context tokens are considered, so that tokens of the question cannot displace them.
        """
        first = batch["first_token"]
        position, context = batch["position_ids"][:, None], batch["context"]
        inside = (position >= context[:, :, :1]) & (position < context[:, :, 1:])
        found = {}
        for side in SIDES:
            scores = jnp.where(inside, _own_token_logits(outputs, side, batch), losses.LOWEST)
            missing = max(0, self.n_best - scores.shape[-1])  # batches of all lengths must give arrays of one size
            scores = jnp.pad(scores, ((0, 0), (0, 0), (0, missing)), constant_values=losses.LOWEST)
            found[f"{side}_scores"], index = jax.lax.top_k(scores, self.n_best)
            found[f"{side}_tokens"] = index - first[..., None]
        nothing = [jnp.take_along_axis(outputs[f"{side}_logits"], first, axis=1) for side in SIDES]
        return Summary(examples=found | {"null_scores": nothing[0] + nothing[1]})

    @property
    def tuned(self) -> bool:
        """Whether the threshold is known or not needed."""
        return not self.unanswerable or self.null_threshold is not None

    def tune(self, summary: Summary, split: Split) -> Self:
        """Set the threshold to the one with the best F1, if it is still to be tuned."""
        if self.tuned:
            return self
        ranked = list(self._ranked(summary, split))
        odds, texts = np.array([x.null_odds for x in ranked]), [x.best.text for x in ranked]
        return replace(self, null_threshold=best_null_threshold(odds, texts, _gold_answers(split.rows)))

    def scores(self, summary: Summary, split: Split) -> dict[str, Any]:
        """F1 and exact match in percent; with unanswerable questions also for each kind, and the threshold."""
        texts = [ranked.answer(self.threshold).text for ranked in self._ranked(summary, split)]
        used = {"null_threshold": self.threshold} if self.unanswerable else {}
        return squad_scores(texts, _gold_answers(split.rows), self.unanswerable) | used

    def gold(self, split: Split) -> list[list[str]]:
        """The texts of the answers to each question; none if it has no answer."""
        return _gold_answers(split.rows)

    def predictions(self, summary: Summary, split: Split) -> tuple[list[str], list[list[str]]]:
        """The predicted answer to each question, empty for none, and the right ones."""
        texts = [ranked.answer(self.threshold).text or "" for ranked in self._ranked(summary, split)]
        return texts, _gold_answers(split.rows)

    def decode(self, summary: Summary, split: Split) -> Iterator[dict[str, Any]]:
        """The answer with its probability and offsets, the other answers, and with unanswerable questions the null odds."""
        keys = map_column(split.rows, "id", str)
        for key, ranked in zip(keys, self._ranked(summary, split), strict=True):
            odds = {"null_odds": round(ranked.null_odds, 6)} if self.unanswerable else {}
            others = [_answer_fields(answer) for answer in ranked.n_best]
            yield {"id": key} | _answer_fields(ranked.answer(self.threshold)) | odds | {"n_best": others}

    @classmethod
    def check_document(cls, rows: Any) -> None:
        """Check that ids are unique, because the document has one answer per id."""
        first: dict[str, int] = {}
        for number, key in enumerate(map_column(rows, "id", str), 1):
            if first.setdefault(key, number) != number:
                raise UserError(
                    f'questions {first[key]} and {number} have the id "{key}", and a json file holds one answer per id: '
                    "give --output a name that ends in .jsonl, which has one line per question"
                )

    def document(self, predictions: list[dict[str, Any]]) -> dict[str, str]:
        """SQuAD's predictions file: {id: answer}."""
        return {row["id"]: row["answer"] or "" for row in predictions}

    def _ranked(self, summary: Summary, split: Split) -> Iterator[RankedAnswers]:
        """The answers of each question; their texts and offsets are those of the file's own context."""
        found, notes = summary.examples, split.notes
        begins, ends = notes["begin"], notes["end"]
        own = OWN_CONTEXT in split.rows.column_names
        contexts = map_column(split.rows, OWN_CONTEXT if own else "context", str)
        edits = column_values(split.rows, STAGES) if own else itertools.repeat((), len(contexts))
        edges = np.searchsorted(notes["question"], np.arange(len(contexts) + 1))
        for context, stages, low, high in zip(contexts, edits, edges, edges[1:], strict=False):
            windows = {name: x[low:high] for name, x in found.items()}
            starts = split.examples.starts[low:high]
            candidates = [
                (score, *own_span(stages, int(begins[starts[window] + first]), int(ends[starts[window] + last])))
                for score, window, first, last in best_spans(windows, self.n_best, self.max_answer_length)
            ]
            nothing = float(windows["null_scores"].min()) if self.unanswerable else None
            yield rank_answers(candidates, context, nothing, self.n_best)


def _own_token_logits(outputs: Outputs, side: str, batch: Batch) -> jax.Array:
    return losses.logits_per_sequence(outputs[f"{side}_logits"], batch["segment_ids"], batch["first_token"].shape[1])


def _window_weights(batch: Batch) -> jax.Array:
    """[R, M]: 1 for a window whose label is known, otherwise 0; windows without labels all count."""
    return batch["weights"] * (batch["start_positions"] >= 0) if "start_positions" in batch else batch["weights"]


def _gold_answers(rows: Any) -> list[list[str]]:
    """The texts of the answers to each question, as they are in the file."""
    if OWN_ANSWERS in rows.column_names:
        return map_column(rows, OWN_ANSWERS, list)
    return map_column(rows, "answers", lambda answers: answers["text"])


def _answer_fields(answer: Answer) -> dict[str, Any]:
    return {"answer": answer.text, "score": round(answer.probability, 6), "start": answer.start, "end": answer.end}
