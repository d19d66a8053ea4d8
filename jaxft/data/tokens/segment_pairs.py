"""Pairs of segments for the second task of pretraining, made as BERT's and ALBERT's `create_pretraining_data` make them."""

import itertools
from bisect import bisect_left

import numpy as np

from jaxft.core.errors import UserError
from jaxft.core.random_streams import OfSeed, host_generator
from jaxft.data.tokens.cache import Arrays
from jaxft.data.tokens.corpus import Stream
from jaxft.data.tokens.spans import Frame, assemble

SHORT = 0.1  # share of the documents whose pairs are of a random shorter length
Span = tuple[int, int]


def pairs(stream: Stream, frame: Frame, max_length: int, *, order: bool, seed: int, origin: str) -> Arrays:
    """Examples (see `assemble`) of two segments each, and int32 `labels` [N].

    Lines of a document are gathered up to the length of an example and divided at a random line. For next sentence
    (Devlin et al. 2019, arXiv:1810.04805), the second segment of half of them, and of those of a single line, is replaced
    by lines of another document (label 1), and the lines it would have had are used again. For sentence order (Lan et al.
    2020, arXiv:1909.11942), half are swapped (label 1), and a single line is divided at a random token. What is longer than
    an example loses tokens of the longer segment, at a random end.

    Args:
      stream: the corpus.
      frame: special tokens around two texts.
      max_length: special tokens included.
      order: sentence order instead of next sentence.
      seed: of every choice.
      origin: the file, for messages.

    Raises:
      UserError: when next sentence has no other document or no document of two lines, or there is no pair at all.
    """
    lines = np.unique(stream.lines)
    edges = stream.lines[stream.documents]
    # Where the lines of each document begin and end; empty lines and documents are gone.
    documents = [
        lines[np.searchsorted(lines, a) : np.searchsorted(lines, b) + 1].tolist()
        for a, b in itertools.pairwise(edges)
        if b > a
    ]
    if not order:
        _check(documents, origin)
    maker = _Maker(documents, max_length - frame.size, host_generator(seed, OfSeed.SEGMENT_PAIRS))
    found = [pair for number in range(len(documents)) for pair in maker.of_document(number, order)]
    if not found:
        raise UserError(f"{origin}: no document has two tokens to make a pair of")
    spans = np.array([[a, b] for a, b, _ in found], np.int64)
    arrays = assemble(stream.ids, stream.begins, spans, frame)
    return {**arrays, "labels": np.array([label for *_, label in found], np.int32)}


def _check(documents: list[list[int]], origin: str) -> None:
    if len(documents) < 2:
        raise UserError(
            f"{origin}: next sentence needs two documents or more, but there is {len(documents)}; empty lines stand between "
            "documents in txt, and elsewhere a row is a document (task.sentence_order true needs only one)"
        )
    if all(len(edges) == 2 for edges in documents):
        raise UserError(f"{origin}: no document has two lines; next sentence needs a sentence a line")


class _Maker:
    """The pairs of one corpus.

    Attributes:
      documents: where the lines of each begin, and the last ends.
      room: tokens of an example without special ones.
      random: every choice, in turn.
    """

    def __init__(self, documents: list[list[int]], room: int, random: np.random.Generator) -> None:
        self.documents, self.room, self.random = documents, room, random

    def of_document(self, number: int, order: bool) -> list[tuple[Span, Span, int]]:
        """(first segment, second, label) of each pair of a document."""
        edges, found, begin = self.documents[number], [], 0
        target = int(self.random.integers(2, self.room + 1)) if self._half(SHORT) else self.room
        while begin < len(edges) - 1:
            end = _reach(edges, begin, target)
            middle = begin + (int(self.random.integers(1, end - begin)) if end - begin > 1 else 1)
            a, b, label = (edges[begin], edges[middle]), (edges[middle], edges[end]), 0
            used = end
            if order:
                if end - begin == 1:
                    if a[1] - a[0] < 2:
                        break  # one token, the last of its document
                    cut = a[0] + int(self.random.integers(1, a[1] - a[0]))
                    a, b = (a[0], cut), (cut, a[1])
                if self._half():
                    a, b, label = b, a, 1
            elif end - begin == 1 or self._half():
                b, label, used = self._elsewhere(number, target - (a[1] - a[0])), 1, middle
            found.append((*self._truncated(a, b), label))
            begin = used
        return found

    def _elsewhere(self, number: int, length: int) -> Span:
        """Lines of another document, at least one and until there are so many tokens."""
        other = int(self.random.integers(len(self.documents) - 1))
        edges = self.documents[other + (other >= number)]
        begin = int(self.random.integers(len(edges) - 1))
        return edges[begin], edges[_reach(edges, begin, length)]

    def _truncated(self, a: Span, b: Span) -> tuple[Span, Span]:
        """Both, cut to the room there is: always the longer one, at a random end each time."""
        lengths = a[1] - a[0], b[1] - b[0]
        extra = max(0, sum(lengths) - self.room)
        ahead = min(extra, abs(lengths[0] - lengths[1]))
        rest = extra - ahead
        from_a, from_b = (ahead, 0) if lengths[0] > lengths[1] else (0, ahead)
        return self._cut(a, from_a + rest // 2), self._cut(b, from_b + rest - rest // 2)

    def _cut(self, span: Span, tokens: int) -> Span:
        front = int(self.random.binomial(tokens, 0.5)) if tokens else 0
        return span[0] + front, span[1] - (tokens - front)

    def _half(self, share: float = 0.5) -> bool:
        return self.random.random() < share


def _reach(edges: list[int], begin: int, length: int) -> int:
    """The line before which so many tokens have passed since `begin`, at least one line later and at most the end."""
    return min(max(bisect_left(edges, edges[begin] + length, begin), begin + 1), len(edges) - 1)
