"""The pipeline of extractive question answering, with the results of transformers 4.57's `QuestionAnsweringPipeline`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.data.cleaning.cleaner import Cleaned
from jaxft.evaluation.inference import OpenedModel
from jaxft.pipelines.base import Encoded, Pipeline, check_count, check_flags
from jaxft.pipelines.texts import examples_of
from jaxft.tasks.question_answering import QuestionAnswering
from jaxft.tasks.task import Batch, Outputs

MASKED = -10000.0  # the logit of tokens that cannot be in an answer
DOC_STRIDE, MAX_ANSWER = 128, 15


@dataclass(frozen=True)
class Note:
    """What decoding needs of a question."""

    context: str  # as it was given
    cleaned: Cleaned
    windows: Sequence[Any]  # a `tokenizers.Encoding` each


class QuestionAnsweringPipeline(Pipeline):
    """Answers of questions from contexts: {"question": ..., "context": ...}, also as two keywords.

    A result is {"score", "start", "end", "answer"}, or with `top_k` above 1 a list of them. The score is the product of the
    probabilities of the first and the last token in their window. A context that is too long is divided into windows that
    share `doc_stride` tokens (128). Answers have at most `max_answer_len` (15) tokens and end with whole words unless
    `align_to_words` is false. With `handle_impossible_answer` the answer may be empty; by default it may if the model was
    fine-tuned with jaxft for questions without an answer. Offsets are those of the context as it was given.
    """

    task = "question-answering"
    accepts = frozenset({"top_k", "doc_stride", "max_answer_len", "handle_impossible_answer", "align_to_words"})
    chunk = 256

    def check_options(self, options: Mapping[str, Any]) -> None:
        """As in `Pipeline`."""
        for name, least in (("top_k", 1), ("max_answer_len", 1), ("doc_stride", 0)):
            check_count(options, name, least)
        check_flags(options, "handle_impossible_answer", "align_to_words")

    def __call__(self, inputs: Any = None, *, question: Any = None, context: Any = None, **options: Any) -> Any:
        """As in `Pipeline`; `question` and `context` are texts, or lists of texts, in place of `inputs`."""
        if inputs is None:
            if isinstance(question, str) and isinstance(context, str):
                inputs = {"question": question, "context": context}
            elif all(isinstance(x, (list, tuple)) for x in (question, context)) and len(question) == len(context):
                inputs = [{"question": q, "context": c} for q, c in zip(question, context, strict=True)]
            else:
                raise UserError("question and context must be two texts, or two lists with as many texts")
        return super().__call__(inputs, **options)

    def describes(self) -> str:
        """One input."""
        return '{"question": ..., "context": ...}'

    def probe(self) -> Sequence[Any]:
        """A question."""
        return [{"question": "a", "context": "b"}]

    def encode(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Encoded:
        """One example per window of a context."""
        notes, every = [], []
        for value in inputs:
            own = value if isinstance(value, Mapping) else {}
            question, context = own.get("question"), own.get("context")
            if not isinstance(question, str) or not isinstance(context, str) or not question.strip() or not context.strip():
                raise UserError(f"an input is {value!r:.100}: must be {self.describes()}, two texts that are not empty")
            cleaned = self.encoder.clean(context)
            stride = options.get("doc_stride", min(self.encoder.max_length // 2, DOC_STRIDE))
            windows = self.encoder.question_windows(self.encoder.clean(question).text, cleaned.text, stride)
            notes.append(Note(context, cleaned, windows))
            every += windows
        return Encoded(examples_of([x.ids for x in every], self.encoder.types(every)), notes)

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The logits of the first and the last token of an answer, [R, T] each."""
        return Summary(tokens={"start": outputs["start_logits"], "end": outputs["end_logits"]})

    def decode(self, summary: Summary, encoded: Encoded, options: Mapping[str, Any]) -> Iterator[Any]:
        """The answers of each question."""
        task = self.model.task if isinstance(self.model, OpenedModel) else None
        allowed = isinstance(task, QuestionAnswering) and task.unanswerable
        if (given := options.get("handle_impossible_answer")) is not None:
            allowed = given
        top_k, window = options.get("top_k", 1), 0
        for note in encoded.notes:
            nothing, answers = float("inf"), dict[str, dict[str, Any]]()
            for encoding in note.windows:
                low, high = encoded.examples.offsets[window : window + 2]
                window += 1
                logits = [summary.tokens[side][low:high].astype(np.float64) for side in ("start", "end")]
                inside = np.array([x == 1 for x in encoding.sequence_ids])
                inside |= np.array(encoding.ids) == self.model.tokenizer.cls_token_id  # it stands for no answer
                first, last = (softmax(np.where(inside, x, MASKED)) for x in logits)
                nothing = min(nothing, float(first[0] * last[0]))
                first[0] = last[0] = 0.0
                self._add(answers, first, last, inside, encoding, note, options)
            found = list(answers.values())
            if allowed:
                found.append({"score": nothing, "start": 0, "end": 0, "answer": ""})
            found = sorted(found, key=lambda x: -x["score"])[:top_k]
            yield found[0] if len(found) == 1 else found

    def _add(
        self,
        answers: dict[str, dict[str, Any]],
        first: np.ndarray,
        last: np.ndarray,
        inside: np.ndarray,
        encoding: Any,
        note: Note,
        options: Mapping[str, Any],
    ) -> None:
        """Add the best answers of a window; those with the same text share one score, the sum."""
        align, top_k = options.get("align_to_words", True), options.get("top_k", 1)
        most = 2 * top_k + 10 if align else top_k  # several may be the same answer once they are aligned
        scores = np.tril(np.triu(np.outer(first, last)), options.get("max_answer_len", MAX_ANSWER) - 1)
        best = np.argsort(-scores, axis=None, kind="stable")[:most]
        for begin, end in zip(*np.unravel_index(best, scores.shape), strict=True):
            if not (inside[begin] and inside[end] and scores[begin, end]):
                continue
            span = _characters(encoding, int(begin), int(end), align=align)
            text, score = note.cleaned.text[span[0] : span[1]], float(scores[begin, end])
            if (same := answers.get(text.lower())) is not None:
                same["score"] += score
                continue
            start, stop = note.cleaned.own_span(*span)
            answers[text.lower()] = {"score": score, "start": start, "end": stop, "answer": note.context[start:stop]}


def _characters(encoding: Any, first: int, last: int, *, align: bool) -> tuple[int, int]:
    """The characters of the context from a first to a last token, of whole words if the tokenizer knows them."""
    words = (encoding.token_to_word(first), encoding.token_to_word(last)) if align else (None, None)
    if None not in words:
        return encoding.word_to_chars(words[0], 1)[0], encoding.word_to_chars(words[1], 1)[1]
    return encoding.offsets[first][0], encoding.offsets[last][1]
