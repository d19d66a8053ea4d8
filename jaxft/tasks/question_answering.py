"""Extractive question answering: the span of a context that answers a question, or that there is none (SQuAD 1 and 2)."""

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
from jaxft.data.batching.collect import Collected
from jaxft.data.formats.squad import read_questions
from jaxft.data.reading.columns import map_column
from jaxft.data.tokens.questions import encode_questions
from jaxft.tasks.answer_candidates import Answer, Decoded, best_spans, decode
from jaxft.tasks.metrics.squad import best_null_threshold, squad_scores
from jaxft.tasks.task import Batch, Outputs, Split, Summary, Task

Array = jax.Array
SIDES = ("start", "end")


@dataclass(frozen=True)
class QuestionAnswering(Task):
    """The task with how it chooses an answer.

    Attributes:
      n_best: starts and ends a window, and answers a question.
      max_answer_length: in tokens.
      unanswerable: whether no answer is possible.
      null_threshold: the null odds above which there is none; None until it is tuned (then 0).
    """

    n_best: int = 20
    max_answer_length: int = 30
    unanswerable: bool = False
    null_threshold: float | None = None

    kind: ClassVar[str] = "question-answering"
    metrics: ClassVar[Mapping[str, bool]] = {"f1": True, "exact_match": True, "loss": False}
    options: ClassVar[frozenset[str]] = frozenset(
        {"unanswerable", "null_threshold", "n_best", "max_answer_length", "misplaced_answers"}
    )

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """Everything is in the config."""
        if config.train.label_smoothing:
            raise UserError(f"train.label_smoothing is {config.train.label_smoothing}: question-answering has none")
        return cls._make(config, {})

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """Whether no answer is possible, and from which odds, as config.json says where the config does not."""
        return cls._make(config, (hf_config.get("task_specific_params") or {}).get("jaxft") or {})

    @classmethod
    def _make(cls, config: Config, stored: Mapping[str, Any]) -> Self:
        task, threshold = config.task, config.task.null_threshold
        return cls(
            n_best=task.n_best,
            max_answer_length=task.max_answer_length,
            unanswerable=task.unanswerable or bool(stored.get("unanswerable")),
            null_threshold=stored.get("null_threshold") if threshold == "tune" else float(threshold),
        )

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """A row a question."""
        return read_questions(config.data, split, labelled=labelled, misplaced=config.task.misplaced_answers)

    @classmethod
    def text_columns(cls, config: Config) -> list[str]:
        """As `read` calls them."""
        return ["question", "context"]

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """One example a window of a question's context."""
        if labelled and not self.unanswerable:
            for number, texts in enumerate(_golds(rows)):
                if not texts:
                    key = rows[number]["id"]
                    raise UserError(
                        f'{origin}: question "{key}" has no answer; if that may be, set task.unanswerable to true'
                    )
        data = config.data
        examples, notes = encode_questions(
            rows,
            tokenizer,
            directory,
            max_length=data.max_length,
            stride=data.max_length // 4 if data.stride is None else data.stride,
            use_cache=data.cache,
            labelled=labelled,
            origin=origin,
            invalid_is_null=data.empty_texts == "null",
        )
        return Split(rows, examples, origin, notes)

    @property
    def config_fields(self) -> Mapping[str, Any]:
        """Whether no answer is possible, and from which odds."""
        own: dict[str, Any] = {"unanswerable": self.unanswerable}
        if self.unanswerable:
            own["null_threshold"] = self.threshold
        return {"task_specific_params": {"jaxft": own}}

    @property
    def threshold(self) -> float | None:
        """The null odds above which there is no answer, untuned 0 as in Hugging Face's script; None without such."""
        return (self.null_threshold or 0.0) if self.unanswerable else None

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> losses.WeightedSum:
        """Mean of start and end cross-entropy, each over a window's own tokens.

        A window whose answer's place is unknown has no weight.
        """
        del train
        total = jnp.zeros(())
        for side in SIDES:
            place = batch["first_token"] + batch[f"{side}_positions"]
            total += losses.cross_entropy(_own(outputs, side, batch), place, _weights(batch))[0]
        return total / 2, _weights(batch).sum()

    def soft_loss(self, outputs: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> losses.WeightedSum:
        """Mean of start and end cross-entropy against the teacher's distributions."""
        total = jnp.zeros(())
        for side in SIDES:
            ours, theirs = (_own(x, side, batch) for x in (outputs, teacher))
            total += losses.soft_cross_entropy(ours, theirs, _weights(batch), temperature)[0]
        return total / 2, _weights(batch).sum()

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The best context tokens to start and end at, `n_best` of each a window, and the score of no answer.

        Only context tokens take part, so that a question's tokens cannot push them out of the best.
        """
        first = batch["first_token"]
        position, context = batch["position_ids"][:, None], batch["context"]
        inside = (position >= context[:, :, :1]) & (position < context[:, :, 1:])
        found = {}
        for side in SIDES:
            scores = jnp.where(inside, _own(outputs, side, batch), losses.LOWEST)
            missing = max(0, self.n_best - scores.shape[-1])  # shapes of all lengths give arrays of one size
            scores = jnp.pad(scores, ((0, 0), (0, 0), (0, missing)), constant_values=losses.LOWEST)
            found[f"{side}_scores"], place = jax.lax.top_k(scores, self.n_best)
            found[f"{side}_tokens"] = place - first[..., None]
        nothing = [jnp.take_along_axis(outputs[f"{side}_logits"], first, axis=1) for side in SIDES]
        return {"examples": found | {"null_scores": nothing[0] + nothing[1]}}

    @property
    def fitted(self) -> bool:
        """Whether the threshold is known, or none is needed."""
        return not self.unanswerable or self.null_threshold is not None

    def fit(self, collected: Collected, split: Split) -> Self:
        """The task with the threshold of the best F1."""
        if self.fitted:
            return self
        found = list(self._decoded(collected, split))
        odds = np.array([decoded.null_odds for decoded in found])
        return replace(self, null_threshold=best_null_threshold(odds, [d.best.text for d in found], _golds(split.rows)))

    def scores(self, collected: Collected, split: Split) -> dict[str, Any]:
        """F1 and exact match in percent; for unanswerable questions also by kind, and the threshold."""
        texts = [decoded.answer(self.threshold).text for decoded in self._decoded(collected, split)]
        used = {"null_threshold": self.threshold} if self.unanswerable else {}
        return squad_scores(texts, _golds(split.rows), self.unanswerable) | used

    def decode(self, collected: Collected, split: Split) -> Iterator[dict[str, Any]]:
        """The answer, its probability and place, the other answers, and for unanswerable questions the null odds."""
        keys = map_column(split.rows, "id", str)
        for key, decoded in zip(keys, self._decoded(collected, split), strict=True):
            odds = {"null_odds": round(decoded.null_odds, 6)} if self.unanswerable else {}
            others = [_shown(answer) for answer in decoded.n_best]
            yield {"id": key} | _shown(decoded.answer(self.threshold)) | odds | {"n_best": others}

    @classmethod
    def check_document(cls, rows: Any) -> None:
        """Every id must stand for one question: the document has one answer for each."""
        first: dict[str, int] = {}
        for number, key in enumerate(map_column(rows, "id", str), 1):
            if first.setdefault(key, number) != number:
                raise UserError(
                    f'questions {first[key]} and {number} have the id "{key}", and a json file holds one answer an id: '
                    "give --output a name that ends in .jsonl, which has a line for every question"
                )

    def document(self, predictions: list[dict[str, Any]]) -> dict[str, str]:
        """SQuAD's predictions file: {id: answer}."""
        return {row["id"]: row["answer"] or "" for row in predictions}

    def _decoded(self, collected: Collected, split: Split) -> Iterator[Decoded]:
        found, notes = collected.examples, split.notes
        contexts = map_column(split.rows, "context", str)
        edges = np.searchsorted(notes["question"], np.arange(len(contexts) + 1))
        for context, low, high in zip(contexts, edges, edges[1:], strict=False):
            spans = best_spans(
                *(found[f"{side}_{what}"][low:high] for side in SIDES for what in ("scores", "tokens")),
                n_best=self.n_best,
                max_answer_length=self.max_answer_length,
            )
            begins = split.examples.starts[low:high]
            places = [
                (score, int(notes["begin"][begins[window] + first]), int(notes["end"][begins[window] + last]))
                for score, window, first, last in spans
            ]
            nothing = float(found["null_scores"][low:high].min()) if self.unanswerable else None
            yield decode(places, context, nothing, self.n_best)


def _own(outputs: Outputs, side: str, batch: Batch) -> Array:
    return losses.logits_per_sequence(outputs[f"{side}_logits"], batch["segment_ids"], batch["first_token"].shape[1])


def _weights(batch: Batch) -> Array:
    """1 for a window whose label is known."""
    return batch["weights"] * (batch["start_positions"] >= 0)


def _golds(rows: Any) -> list[list[str]]:
    return map_column(rows, "answers", lambda answers: answers["text"])


def _shown(answer: Answer) -> dict[str, Any]:
    return {"answer": answer.text, "score": round(answer.probability, 6), "start": answer.start, "end": answer.end}
