"""Deleting and swapping words (EDA, Wei & Zou 2019, arXiv:1901.11196), and shuffling within segments of tagged words."""

from dataclasses import dataclass
from itertools import groupby

from jaxft.data.augmentation.document import Document
from jaxft.data.augmentation.draws import Draws


def count_of(rate: float, words: int) -> int:
    """The number of words that EDA edits: max(1, floor(rate * words)); none if the rate is 0."""
    return max(1, int(rate * words)) if rate and words else 0


@dataclass(frozen=True)
class Delete:
    """Deletes each word with a probability; at least one word is left."""

    rate: float

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        chosen = [i for i in document.editable() if draws.random() < self.rate]
        if len(chosen) == len(document) and chosen:
            chosen.pop(draws.below(len(chosen)))
        for i in reversed(chosen):
            document.delete(i)


@dataclass(frozen=True)
class Swap:
    """Exchanges two words, max(1, floor(rate * words)) times."""

    rate: float

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        candidates = document.editable()
        if len(candidates) < 2:
            return
        for _ in range(count_of(self.rate, len(candidates))):
            document.swap(*draws.some(candidates, 2))


@dataclass(frozen=True)
class ShuffleSegments:
    """Shuffles the words of a segment with a probability; segments are entities, and the words between two of them.

    This is "shuffle within segments" of Dai & Adel 2020 (arXiv:2010.11683). The tags stay in their order.
    """

    rate: float

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        assert document.tags is not None
        start = 0
        for size in segment_sizes(document.tags):
            if draws.random() < self.rate:
                order = [start + i for i in draws.shuffled(range(size))]
                document.words[start : start + size] = [document.words[i] for i in order]
                document.limits[start : start + size] = [document.limits[i] for i in order]
            start += size


def segment_sizes(tags: list[str]) -> list[int]:
    """The number of words of each segment of a sentence: entities in IOB2, and runs of other equal tags."""
    number, numbers = 0, []
    for before, tag in zip(["", *tags], tags, strict=False):
        continues = tag == before or (tag.startswith("I") and before[1:] == tag[1:] and before[:1] in ("B", "I"))
        number += not continues or tag == "B" or tag.startswith("B-")
        numbers.append(number)
    return [len(list(group)) for _, group in groupby(numbers)]
