"""Pairs of segments for the second pretraining task, as in BERT's and ALBERT's `create_pretraining_data`."""

import itertools
from bisect import bisect_left

import numpy as np

from jaxft.core.errors import UserError
from jaxft.core.random_streams import OfSeed, host_generator
from jaxft.data.tokens.cache import Arrays
from jaxft.data.tokens.corpus import Stream
from jaxft.data.tokens.spans import Frame, join_spans

SHORT = 0.1  # share of documents whose pairs have a random shorter length
Span = tuple[int, int]


def pairs(stream: Stream, frame: Frame, max_length: int, *, order: bool, seed: int, origin: str) -> Arrays:
    """Makes examples (see `join_spans`) of two segments each, with int32 `labels` [N].

    Lines of a document are collected up to the length of an example and divided at a random line. For next sentence
    prediction (Devlin et al. 2019, arXiv:1810.04805), the second segment is replaced by lines of another document (label 1)
    in half of the pairs, and whenever there is only one line; the replaced lines are used again. For sentence order
    prediction (Lan et al. 2020, arXiv:1909.11942), half of the pairs are swapped (label 1), and a single line is divided at
    a random token. If a pair is too long, tokens are removed from the longer segment, at a random end.

    Args:
      frame: special tokens around two texts.
      max_length: length of an example, special tokens included.
      order: sentence order instead of next sentence.
      seed: of all random choices.

    Raises:
      UserError: if next sentence has only one document or no document of two lines, or there is no pair at all.
    """
    # The line boundaries of each document, without empty lines and documents.
    lines = np.unique(stream.lines)
    bounds = np.searchsorted(lines, np.unique(stream.lines[stream.documents]))
    documents = [lines[a : b + 1].tolist() for a, b in itertools.pairwise(bounds)]
    if not order and len(documents) < 2:
        raise UserError(
            f"{origin}: next sentence needs two documents or more, but there is {len(documents)}; in txt files empty lines "
            "separate documents, in other files every row is a document (task.sentence_order true needs only one)"
        )
    if not order and all(len(edges) == 2 for edges in documents):
        raise UserError(f"{origin}: no document has two lines; next sentence needs one sentence per line")
    maker = _PairMaker(documents, max_length - frame.size, host_generator(seed, OfSeed.SEGMENT_PAIRS))
    made = [pair for number in range(len(documents)) for pair in maker.of_document(number, order)]
    if not made:
        raise UserError(f"{origin}: no document has two tokens to make a pair of")
    spans = np.array([[a, b] for a, b, _ in made], np.int64)
    arrays = join_spans(stream.ids, stream.begins, spans, frame)
    return {**arrays, "labels": np.array([label for *_, label in made], np.int32)}


class _PairMaker:
    """Makes the pairs of one corpus, each of at most `capacity` tokens.

    `documents` holds the token indices at which the lines of each document begin, and at which the last one ends.
    """

    def __init__(self, documents: list[list[int]], capacity: int, random: np.random.Generator) -> None:
        self.documents, self.capacity, self.random = documents, capacity, random

    def of_document(self, number: int, order: bool) -> list[tuple[Span, Span, int]]:
        """(first segment, second, label) of each pair of a document."""
        edges, made, begin = self.documents[number], [], 0
        target = int(self.random.integers(2, self.capacity + 1)) if self._chance(SHORT) else self.capacity
        while begin < len(edges) - 1:
            end = _reach(edges, begin, target)
            middle = begin + (int(self.random.integers(1, end - begin)) if end - begin > 1 else 1)
            a, b, label = (edges[begin], edges[middle]), (edges[middle], edges[end]), 0
            used = end
            if order:
                if end - begin == 1:
                    if a[1] - a[0] < 2:
                        break  # a single token is left of the document
                    cut = a[0] + int(self.random.integers(1, a[1] - a[0]))
                    a, b = (a[0], cut), (cut, a[1])
                if self._chance(0.5):
                    a, b, label = b, a, 1
            elif end - begin == 1 or self._chance(0.5):
                b, label, used = self._elsewhere(number, target - (a[1] - a[0])), 1, middle
            made.append((*self._truncated(a, b), label))
            begin = used
        return made

    def _elsewhere(self, number: int, length: int) -> Span:
        """Lines of a random other document: at least one, and as many as give `length` tokens."""
        other = int(self.random.integers(len(self.documents) - 1))
        edges = self.documents[other + (other >= number)]
        begin = int(self.random.integers(len(edges) - 1))
        return edges[begin], edges[_reach(edges, begin, length)]

    def _truncated(self, a: Span, b: Span) -> tuple[Span, Span]:
        """Both segments, truncated to `capacity` tokens: each token is removed from the longer segment, at a random end."""
        lengths = a[1] - a[0], b[1] - b[0]
        extra = max(0, sum(lengths) - self.capacity)
        ahead = min(extra, abs(lengths[0] - lengths[1]))
        rest = extra - ahead
        from_a, from_b = (ahead, 0) if lengths[0] > lengths[1] else (0, ahead)
        return self._cut(a, from_a + rest // 2), self._cut(b, from_b + rest - rest // 2)

    def _cut(self, span: Span, tokens: int) -> Span:
        front = int(self.random.binomial(tokens, 0.5)) if tokens else 0
        return span[0] + front, span[1] - (tokens - front)

    def _chance(self, share: float) -> bool:
        return self.random.random() < share


def _reach(edges: list[int], begin: int, length: int) -> int:
    """The first line boundary at least `length` tokens after line `begin`, but after it and not beyond the last."""
    return min(max(bisect_left(edges, edges[begin] + length, begin), begin + 1), len(edges) - 1)
