"""Rank the answers of a question from the best starts and ends of its windows.

The rules are those of postprocess_qa_predictions in Hugging Face's utils_qa.py."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax

from jaxft.data.formats.split_text import is_mark
from jaxft.losses import LOWEST


@dataclass(frozen=True)
class Answer:
    """A span of the context, or no answer if `text` is empty.

    Attributes:
      text: the text of the span.
      start, end: character offsets in the context, `end` exclusive; None for no answer.
      score: start logit plus end logit.
      probability: softmax of the scores over the answers that were kept.
    """

    text: str
    start: int | None
    end: int | None
    score: float
    probability: float = 0.0


@dataclass(frozen=True)
class RankedAnswers:
    """The best answers of a question.

    Attributes:
      best: the best answer that is not empty; the empty answer if there is no other.
      n_best: the best answers in descending order, including no answer if that is allowed.
      null_odds: the score of no answer minus the score of `best`.
    """

    best: Answer
    n_best: tuple[Answer, ...]
    null_odds: float

    def answer(self, threshold: float | None) -> Answer:
        """The best answer, or no answer if `null_odds` is above a threshold."""
        nothing = not self.best.text or (threshold is not None and self.null_odds > threshold)
        return next(answer for answer in self.n_best if bool(answer.text) != nothing)


def best_spans(windows: Mapping[str, np.ndarray], n_best: int, max_answer_length: int) -> list[tuple[float, int, int, int]]:
    """(score, window, first token, last token) of the best spans; ties go to the earlier window, then the better start.

    Args:
      windows: `start_scores` and `end_scores`, logits [W, k] in descending order, LOWEST if a window has fewer tokens;
        `start_tokens` and `end_tokens`, their positions [W, k].
      n_best, max_answer_length: the maximum number of spans, and of tokens of a span.
    """
    starts, ends = windows["start_scores"][:, :, None], windows["end_scores"][:, None, :]
    first, last = np.broadcast_arrays(windows["start_tokens"][:, :, None], windows["end_tokens"][:, None, :])
    scores, lengths = starts.astype(np.float64) + ends, last - first + 1
    real = (starts > LOWEST / 2) & (ends > LOWEST / 2)
    possible = np.flatnonzero(real & (lengths >= 1) & (lengths <= max_answer_length))
    chosen = possible[np.argsort(-scores.ravel()[possible], kind="stable")][:n_best]
    cells = list(zip(*np.unravel_index(chosen, scores.shape), strict=True))
    return [(float(scores[cell]), int(cell[0]), int(first[cell]), int(last[cell])) for cell in cells]


def rank_answers(spans: list[tuple[float, int, int]], context: str, null_score: float | None, n_best: int) -> RankedAnswers:
    """Rank the answers of a question about a context.

    Args:
      spans: (score, start, end) in descending order of score; character offsets, `end` exclusive.
      null_score: the score of no answer, the minimum over the windows; None if every question has an answer.
      n_best: the number of answers to keep; no answer is always kept.
    """
    found = [answer for span in spans if (answer := _cut(context, *span)).text]
    nothing = Answer("", None, None, null_score or 0.0)
    best = found[0] if found else Answer("", None, None, 0.0)
    if null_score is not None:
        rank = sum(answer.score >= null_score for answer in found)
        limit = max(n_best, 2)  # one may be no answer
        found.insert(rank, nothing)
        found = found[:limit] + ([nothing] if rank >= limit else [])
    found = found or [nothing]
    shares = softmax(np.array([answer.score for answer in found]))
    kept = tuple(replace(answer, probability=float(share)) for answer, share in zip(found, shares, strict=True))
    return RankedAnswers(best, kept, nothing.score - best.score)


def _cut(context: str, score: float, start: int, end: int) -> Answer:
    """The answer at a span, without surrounding blanks and with the combining marks on its last letter.

    Some tokenizers count blanks as part of a word; tokenizers that drop accents do not count the marks."""
    while end < len(context) and is_mark(context[end]):
        end += 1
    text = context[start:end]
    start += len(text) - len(text.lstrip())
    text = text.strip()
    return Answer(text, start, start + len(text), score)
