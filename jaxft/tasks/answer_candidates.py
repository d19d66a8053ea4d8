"""From the best starts and ends of a question's windows to its best answers, as postprocess_qa_predictions of Hugging
Face's utils_qa.py."""

from dataclasses import dataclass, replace

import numpy as np

from jaxft.data.formats.split_text import is_mark
from jaxft.losses import LOWEST


@dataclass(frozen=True)
class Answer:
    """A span of the context, or no answer where `text` is empty.

    Attributes:
      text: cut from the context.
      start, end: its first character and the one after its last; None for no answer.
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
      best: the best that is not empty, or the empty one where there is none.
      n_best: best first; no answer among them where that is possible.
      null_odds: the score of no answer less that of `best`.
    """

    best: Answer
    n_best: tuple[Answer, ...]
    null_odds: float

    def answer(self, threshold: float | None) -> Answer:
        """The best of `n_best`, or no answer where `null_odds` are above a threshold."""
        nothing = not self.best.text or (threshold is not None and self.null_odds > threshold)
        return next(answer for answer in self.n_best if bool(answer.text) != nothing)


def best_spans(
    start_scores: np.ndarray,
    start_tokens: np.ndarray,
    end_scores: np.ndarray,
    end_tokens: np.ndarray,
    *,
    n_best: int,
    max_answer_length: int,
) -> list[tuple[float, int, int, int]]:
    """(score, window, first token, last token) of the best spans; of equals the earlier window, then the likelier start.

    Args:
      start_scores, end_scores: logits, descending [W, k]; LOWEST where a window has fewer tokens.
      start_tokens, end_tokens: their tokens [W, k].
      n_best: spans at most.
      max_answer_length: in tokens.
    """
    scores = start_scores[:, :, None].astype(np.float64) + end_scores[:, None, :]
    lengths = end_tokens[:, None, :] - start_tokens[:, :, None] + 1
    real = (start_scores > LOWEST / 2)[:, :, None] & (end_scores > LOWEST / 2)[:, None, :]
    possible = np.flatnonzero(real & (lengths >= 1) & (lengths <= max_answer_length))
    chosen = possible[np.argsort(-scores.ravel()[possible], kind="stable")][:n_best]
    found = []
    for window, i, j in zip(*np.unravel_index(chosen, scores.shape), strict=True):
        found.append((float(scores[window, i, j]), int(window), int(start_tokens[window, i]), int(end_tokens[window, j])))
    return found


def rank_answers(spans: list[tuple[float, int, int]], context: str, null_score: float | None, n_best: int) -> RankedAnswers:
    """Answers from the context.

    Args:
      spans: (score, first character, the one after the last), best first.
      context: of the question.
      null_score: of no answer, the lowest over the windows; None where every question has an answer.
      n_best: answers to keep; no answer is one of them, or is kept beside them.
    """
    found = [answer for span in spans if (answer := _cut(context, *span)).text]
    nothing = Answer("", None, None, null_score or 0.0)
    best = found[0] if found else Answer("", None, None, 0.0)
    if null_score is not None:
        place = sum(answer.score >= null_score for answer in found)
        most = max(n_best, 2)  # one may be no answer
        found.insert(place, nothing)
        found = found[:most] + ([nothing] if place >= most else [])
    found = found or [nothing]
    scores = np.array([answer.score for answer in found])
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    kept = tuple(replace(answer, probability=float(share)) for answer, share in zip(found, shares, strict=True))
    return RankedAnswers(best, kept, nothing.score - best.score)


def _cut(context: str, score: float, start: int, end: int) -> Answer:
    """A span without the blanks around it, which some tokenizers count to a word, and with the marks on its last letter,
    which tokenizers that drop accents count to none."""
    while end < len(context) and is_mark(context[end]):
        end += 1
    text = context[start:end]
    start += len(text) - len(text.lstrip())
    text = text.strip()
    return Answer(text, start, start + len(text), score)
