"""Rows that occur again: duplicates within a split, leaks between two, and one text with different labels."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np

from jaxft.data.cleaning.duplicates import exact_groups, near_duplicates
from jaxft.data.cleaning.forms import word_form
from jaxft.data.quality.row_texts import RowTexts

Label = tuple[str, ...]


class Repeat(NamedTuple):
    """A row whose text occurs in an earlier row, or in a row of another split: rows from 0, and their similarity."""

    row: int
    other: int
    similarity: float


@dataclass(frozen=True)
class SplitTexts:
    """The rows of a split as the search for repeats needs them.

    Attributes:
      texts: the text of each row.
      labels: the labels of each row; None for a task without labels.
      of_words: whether the labels of a row are the tags of its words, which are not empty.
    """

    texts: RowTexts
    labels: Sequence[Label] | None
    of_words: bool = False

    def agree(self, row: int, other: int) -> bool:
        """Whether the labels of two rows with nearly the same text do not contradict each other."""
        if self.labels is None or self.labels[row] == self.labels[other]:
            return True
        if not self.of_words:
            return False
        one, two = self.texts.words(row), self.texts.words(other)
        return taggings_agree(one, self.labels[row], two, self.labels[other])


class _Joined(Collection[str]):
    """The texts of several splits, one after the other."""

    def __init__(self, parts: Sequence[RowTexts]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._parts)

    def __contains__(self, text: object) -> bool:
        return any(text in part for part in self._parts)


def exact_duplicates(split: SplitTexts, groups: np.ndarray) -> list[Repeat]:
    """The rows with the text and the label of an earlier row."""
    first: dict[tuple[int, Label | None], int] = {}
    found = []
    for row, group in enumerate(groups.tolist()):
        earlier = first.setdefault((group, split.labels[row] if split.labels is not None else None), row)
        if earlier != row:
            found.append(Repeat(row, earlier, 1.0))
    return found


def near_repeats(split: SplitTexts, similarity: float) -> tuple[list[Repeat], list[Repeat]]:
    """The rows with nearly the text of an earlier row: (those near a row whose labels agree, those near rows with other
    labels only)."""
    pairs = near_duplicates(split.texts, similarity=similarity)
    alike = _alike(((x.first, x.second) for x in pairs), split.texts, split.texts, similarity)
    same: dict[int, Repeat] = {}
    different: dict[int, Repeat] = {}
    for pair, is_alike in zip(pairs, alike, strict=True):
        if is_alike:
            found = same if split.agree(pair.first, pair.second) else different
            found.setdefault(pair.second, Repeat(pair.second, pair.first, pair.similarity))
    return [same[row] for row in sorted(same)], [different[row] for row in sorted(different.keys() - same.keys())]


def exact_leaks(groups: np.ndarray, others: np.ndarray) -> list[Repeat]:
    """The rows of a split whose text is in another split; the arguments are the groups of both."""
    first = {group: row for row, group in reversed(list(enumerate(others.tolist())))}
    return [Repeat(row, first[group], 1.0) for row, group in enumerate(groups.tolist()) if group in first]


def near_leaks(split: SplitTexts, other: SplitTexts, similarity: float) -> list[Repeat]:
    """The rows of a split whose text is nearly in another split."""
    pairs = near_duplicates(split.texts, other.texts, similarity=similarity)
    alike = _alike(((x.first, x.second) for x in pairs), split.texts, other.texts, similarity)
    best: dict[int, Repeat] = {}
    for pair, is_alike in zip(pairs, alike, strict=True):
        if is_alike and (pair.first not in best or pair.similarity > best[pair.first].similarity):
            best[pair.first] = Repeat(pair.first, pair.second, pair.similarity)
    return [best[row] for row in sorted(best)]


def conflicts(split: SplitTexts, groups: np.ndarray) -> list[list[int]]:
    """Rows with one text and different labels, a list for each such text."""
    if split.labels is None:
        return []
    rows: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        rows.setdefault(group, []).append(row)
    return [same for same in rows.values() if len({split.labels[row] for row in same}) > 1]


class Search:
    """The repeats in the splits of a data set; each slow search for near ones is made only once.

    Args of the constructor:
      splits: by name.
      similarity: of near duplicates, the Jaccard similarity of their shingles.
    """

    def __init__(self, splits: Mapping[str, SplitTexts], similarity: float) -> None:
        self.splits, self._similarity = splits, similarity
        self._near: dict[str, tuple[list[Repeat], list[Repeat]]] = {}
        self._near_leaks: dict[tuple[str, str], list[Repeat]] = {}

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """The group of each row, int64 [rows], by split: rows of all splits whose texts are equal have one group."""
        found = exact_groups(_Joined([split.texts for split in self.splits.values()]))
        edges = np.cumsum([len(split.texts) for split in self.splits.values()])[:-1]
        return dict(zip(self.splits, np.split(found, edges), strict=True))

    def duplicates(self, split: str) -> list[Repeat]:
        """`exact_duplicates` of a split."""
        return exact_duplicates(self.splits[split], self.groups[split])

    def near(self, split: str) -> tuple[list[Repeat], list[Repeat]]:
        """`near_repeats` of a split."""
        if split not in self._near:
            self._near[split] = near_repeats(self.splits[split], self._similarity)
        return self._near[split]

    def has_near(self, split: str) -> bool:
        """Whether `near` was asked for a split."""
        return split in self._near

    def has_near_leaks(self, split: str, other: str) -> bool:
        """Whether near `leaks` of a split in another were asked for."""
        return (split, other) in self._near_leaks

    def leaks(self, split: str, other: str, *, near: bool = True) -> list[Repeat]:
        """The rows of a split whose text is in another split, exactly or, if asked for, also nearly."""
        found = exact_leaks(self.groups[split], self.groups[other])
        if not near:
            return found
        pair, known = (split, other), {x.row for x in found}
        if pair not in self._near_leaks:
            self._near_leaks[pair] = near_leaks(self.splits[split], self.splits[other], self._similarity)
        return sorted(found + [x for x in self._near_leaks[pair] if x.row not in known])

    def conflicts(self, split: str) -> list[list[int]]:
        """`conflicts` of a split."""
        return conflicts(self.splits[split], self.groups[split])


def taggings_agree(words: Sequence[str], tags: Label, others: Sequence[str], other_tags: Label) -> bool:
    """Whether the words that two sentences share, or have in each other's place, have the same tags.

    The sentences are aligned by the words that they share in the same order, whatever their case. Words that are in one of
    the sentences only are not compared.
    """
    folded = ([word.casefold() for word in sentence] for sentence in (words, others))
    return all(
        tags[begin:end] == other_tags[start:stop]
        for _, begin, end, start, stop in SequenceMatcher(None, *folded, autojunk=False).get_opcodes()
        if end - begin == stop - start
    )


def _alike(pairs: Iterable[tuple[int, int]], texts: RowTexts, others: RowTexts, similarity: float) -> Iterator[bool]:
    """Whether rows are similar in each of their texts: two questions about one long context need not be."""
    if len(texts.columns) == 1:
        yield from (True for _ in pairs)
        return
    for row, other in pairs:
        both = zip(texts.parts(row), others.parts(other), strict=True)
        yield all(a == b or _jaccard(a, b) >= similarity for a, b in both)


def _jaccard(text: str, other: str) -> float:
    one, two = _shingles(text), _shingles(other)
    return len(one & two) / len(one | two) if one or two else 1.0


@lru_cache(maxsize=1 << 12)
def _shingles(text: str) -> frozenset[str]:
    form = word_form(text)
    return frozenset(form[i : i + 3] for i in range(max(1, len(form) - 2)))
