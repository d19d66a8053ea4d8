"""Finds exact and near duplicates of texts, within a split or between two."""

from collections.abc import Collection, Iterable, Iterator, Sized
from itertools import chain
from typing import NamedTuple

import numpy as np

from jaxft.core.progress import Progress
from jaxft.core.ragged import offsets_of
from jaxft.data.cleaning.buckets import candidates
from jaxft.data.cleaning.forms import exact_form, first_of_equal, word_form
from jaxft.data.cleaning.minhash import Bands
from jaxft.data.cleaning.shingles import Sets, in_chunks, shingles_of, temporary_file

SIMILARITY = 0.75  # finds 19 of 20 texts of which one word in ten was changed (docs/cleaning.md)
AT_ONCE = 1 << 16  # pairs that are compared at a time


class NearDuplicate(NamedTuple):
    """Two texts and the Jaccard similarity of their shingles: rows from 0, and a number from 0 to 1."""

    first: int
    second: int
    similarity: float


def exact_groups(texts: Iterable[str]) -> np.ndarray:
    """Which texts are equal after NFKC, case folding and collapsing of whitespace.

    Returns:
      the row of the first text that is equal to each, int64 [N]; a text without duplicates has its own row.
    """
    total = len(texts) if isinstance(texts, Sized) else None
    return first_of_equal(map(exact_form, texts), Progress("looking for exact duplicates", total))


def near_duplicates(
    texts: Collection[str], others: Collection[str] | None = None, *, similarity: float = SIMILARITY
) -> list[NearDuplicate]:
    """Pairs of texts whose shingles have at least this Jaccard similarity |A and B| / |A or B|.

    A shingle is three characters that follow one another in the words of a text, with single spaces between and around them,
    after NFKC and case folding and without punctuation. Every ideograph and kana counts as a word. So a typo, one word in
    ten, case, punctuation and spacing change few shingles, also in short texts (docs/cleaning.md compares other choices).

    Args:
      texts: read twice; in memory are about 300 bytes of each, and its shingles are in a temporary file.
      others: texts of another split. Without them, pairs within `texts` are returned.
      similarity: above 0, at most 1.

    Returns:
      pairs sorted by row. Within `texts` `first` < `second`; with `others`, `first` is a row of `texts` and `second` a row
      of `others`. No pair has a lower similarity; of pairs with exactly this similarity at least 99.5 % are found, and more
      of those with a higher one (minhash.py). Three rules bound time and memory where a text has many near duplicates. Of
      texts with equal words, each is paired with the first one, and only the first is compared with texts of other words
      (with `others`, each of them is in a pair). Two texts that both have 16 pairs are not compared. If more than 64 texts
      agree in a band (buckets.py), 16 of each split are compared with all of them.

    Raises:
      ValueError: if `similarity` is not in (0, 1].
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity is {similarity}: it must be above 0 and at most 1")
    groups = _Groups(texts, others)
    forms = (word_form(text) for text, first in zip(groups.texts(), groups.is_first, strict=True) if first)
    bands, sets = _sets(forms, groups.count, similarity)
    found = {NearDuplicate(*rows, 1.0) for group in range(groups.count) for rows in groups.pairs_of_equal(group)}
    for left, right, value in _similar(bands, sets, groups.sides, similarity):
        found |= {NearDuplicate(*rows, value) for rows in groups.pairs(left, right)}
    return sorted(found)


class _Groups:
    """Texts of equal words, which are compared with others once.

    Attributes:
      is_first: whether each text is the first of its group, bool [texts and others].
      count: the number of groups; they are numbered in the order of their first texts.
      sides: bool [count, 2], whether a group has texts from the left side and from the right side of a pair.
    """

    def __init__(self, texts: Collection[str], others: Collection[str] | None) -> None:
        self._parts = [texts] if others is None else [texts, others]
        self._between, self._size = others is not None, len(texts)
        total = sum(map(len, self._parts))
        first = first_of_equal(map(word_form, self.texts()), Progress("looking for equal texts", total))
        self.is_first = first == np.arange(total)
        group = (np.cumsum(self.is_first) - 1)[first]
        self.count = int(self.is_first.sum())
        self._rows = np.argsort(group, kind="stable")
        self._offsets = offsets_of(np.bincount(group, minlength=self.count))
        self.sides = np.ones((self.count, 2), bool)
        if self._between:
            for side, part in enumerate((group[: self._size], group[self._size :])):
                self.sides[:, side] = np.bincount(part, minlength=self.count) > 0
        self._is_paired = np.zeros((self.count, 2), bool)  # all texts of a side of a group

    def texts(self) -> Iterator[str]:
        """All texts, those of the other split after the first."""
        return chain(*self._parts)

    def pairs_of_equal(self, group: int) -> Iterator[tuple[int, int]]:
        """Pairs of rows of one group."""
        if self._between:
            return self._across(group, group)
        first, *rest = self._members(group).tolist()
        return ((first, row) for row in rest)

    def pairs(self, left: int, right: int) -> Iterator[tuple[int, int]]:
        """Pairs of rows of two groups that are similar."""
        if self._between:
            return chain(self._across(left, right), self._across(right, left))
        return iter([(int(self._members(left)[0]), int(self._members(right)[0]))])

    def _across(self, left: int, right: int) -> Iterator[tuple[int, int]]:
        """The first text of a group with the first other of another, and with all others if they are in no pair yet; and
        the same of the other side."""
        if not (self.sides[left, 0] and self.sides[right, 1]):
            return
        texts, others = self._members(left), self._members(right)
        text, other = int(texts[0]), int(others[np.searchsorted(others, self._size)]) - self._size
        yield text, other
        if not self._is_paired[right, 1]:
            self._is_paired[right, 1] = True
            yield from ((text, row - self._size) for row in others.tolist() if row >= self._size)
        if not self._is_paired[left, 0]:
            self._is_paired[left, 0] = True
            yield from ((row, other) for row in texts.tolist() if row < self._size)

    def _members(self, group: int) -> np.ndarray:
        return self._rows[self._offsets[group] : self._offsets[group + 1]]


def _sets(forms: Iterable[str], count: int, similarity: float) -> tuple[np.ndarray, Sets]:
    """The bands and the sets of shingles of forms."""
    minhash = Bands(similarity)
    bands, sizes = [np.zeros((0, minhash.count), np.uint32)], [np.zeros(0, np.int64)]
    progress, done = Progress("hashing texts", count), 0
    with temporary_file() as file:
        for chunk in in_chunks(forms):
            codes, offsets = shingles_of(chunk)
            file.write(codes.tobytes())
            sizes.append(np.diff(offsets))
            bands.append(minhash.of(codes, offsets))
            progress.at(done := done + len(chunk))
        return np.concatenate(bands), Sets(file, np.concatenate(sizes))


def _similar(bands: np.ndarray, sets: Sets, sides: np.ndarray, similarity: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of groups that are candidates and whose similarity, computed from all shingles, is high enough."""
    count = np.zeros(len(bands), np.int64)  # of the pairs of each group
    for pairs in _pieces(bands, sides, count):
        low, high = np.sort(sets.sizes[pairs], 0)
        possible = low / np.maximum(high, 1) >= similarity
        left, right = pairs[:, possible]
        shared = sets.shared(left, right)
        values = shared / ((low + high)[possible] - shared)
        found = np.flatnonzero(values >= similarity)
        np.add.at(count, np.concatenate([left[found], right[found]]), 1)
        yield from zip(left[found].tolist(), right[found].tolist(), values[found].tolist(), strict=True)


def _pieces(bands: np.ndarray, sides: np.ndarray, found: np.ndarray) -> Iterator[np.ndarray]:
    """The candidates of all bands: int64 [2, P], P at most AT_ONCE. The caller counts what it `found` of each row."""
    full = np.zeros(bands.shape, bool)
    progress = Progress("comparing candidates", len(bands))
    waiting: list[np.ndarray] = []
    size = 0
    for band in range(bands.shape[1]):
        progress.at(band * len(bands) // bands.shape[1])
        for pairs in candidates(bands, band, sides, full, found):
            waiting.append(pairs)
            size += pairs.shape[1]
            if size >= AT_ONCE:
                yield from _cut(waiting)
                waiting, size = [], 0
    yield from _cut(waiting)


def _cut(pieces: list[np.ndarray]) -> Iterator[np.ndarray]:
    joined = np.concatenate([np.zeros((2, 0), np.int64), *pieces], 1)
    for start in range(0, joined.shape[1], AT_ONCE):
        yield joined[:, start : start + AT_ONCE]
