"""A text as words and what stands between them, so that edits of words keep everything else, and tags and answers follow."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

Span = tuple[int, int]  # (first character, one past the last)
FREE, IN_PLACE, FIXED = range(3)
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# A Han character with variation selectors, or what stands between white space and Han characters.
_WORD = re.compile(f"[{_HAN}][\ufe00-\ufe0f\U000e0100-\U000e01ef]*|[^\\s{_HAN}]+")
_IS_HAN = re.compile(f"[{_HAN}]")


class Document:
    """A text, or a sentence of words with tags, that steps edit.

    Attributes:
      words: the words; punctuation around them belongs to the gaps, except where the data contain words.
      gaps: the text before each word, and after the last: one more than words.
      limits: what may be done with each word: FREE to delete, move and edit; IN_PLACE, edited only by steps that keep it
        where it is (words of entities); FIXED, not at all (answers, punctuation marks).
      tags: the tag of each word in IOB2 (or in no scheme); None for texts.
      whole: whether another text may take the place of all of it.
    """

    __slots__ = ("gaps", "limits", "tags", "whole", "words")

    def __init__(
        self,
        words: list[str],
        gaps: list[str],
        limits: list[int],
        tags: list[str] | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self.words, self.gaps, self.limits, self.tags, self.whole = words, gaps, limits, tags, whole

    def __len__(self) -> int:
        return len(self.words)

    def text(self) -> str:
        """The words and gaps, joined."""
        parts = [self.gaps[0]]
        for word, gap in zip(self.words, self.gaps[1:], strict=True):
            parts += (word, gap)
        return "".join(parts)

    def starts(self) -> list[int]:
        """The first character of each word in `text()`."""
        found, at = [], len(self.gaps[0])
        for word, gap in zip(self.words, self.gaps[1:], strict=True):
            found.append(at)
            at += len(word) + len(gap)
        return found

    def editable(self, most: int = FREE) -> list[int]:
        """The words that may be edited: those whose limit is at most `most`."""
        return [i for i, limit in enumerate(self.limits) if limit <= most]

    def delete(self, i: int) -> None:
        """Remove a word, and the space that would stand twice."""
        left, right = self.gaps[i], self.gaps[i + 1]
        if right[:1].isspace() and (left[-1:].isspace() or (i == 0 and not left)):
            right = right.lstrip()
        elif i == len(self.words) - 1 and not right:
            left = left.rstrip()
        self.gaps[i : i + 2] = [left + right]
        del self.words[i], self.limits[i]
        if self.tags is not None:
            del self.tags[i]
        self._keep_apart(i)

    def swap(self, i: int, j: int) -> None:
        """Exchange two words, with their tags; the gaps stay."""
        self.words[i], self.words[j] = self.words[j], self.words[i]
        self.limits[i], self.limits[j] = self.limits[j], self.limits[i]
        if self.tags is not None:
            self.tags[i], self.tags[j] = self.tags[j], self.tags[i]
        for gap in (i, i + 1, j, j + 1):
            self._keep_apart(gap)

    def _keep_apart(self, gap: int) -> None:
        """Put a space between two words that would become one: those beside an empty gap, unless one of them is Han."""
        if 0 < gap < len(self.words) and not self.gaps[gap]:
            left, right = self.words[gap - 1], self.words[gap]
            if left and right and not _IS_HAN.match(left[-1]) and not _IS_HAN.match(right):
                self.gaps[gap] = " "

    def replace(self, i: int, text: str) -> None:
        """Put a text in the place of a word; in tagged data it may become several words, which continue its entity."""
        if self.tags is None:
            self.words[i] = text
            return
        words, tag = text.split(), self.tags[i]
        self.replace_span(i, i + 1, words, [tag, *[inside(tag)] * (len(words) - 1)])

    def insert_after(self, i: int, text: str, tag: str) -> None:
        """Insert a text after a word; in tagged data its words get the tag."""
        if self.tags is None:
            words = [text]
        else:
            words = text.split()
            self.tags[i + 1 : i + 1] = [tag] * len(words)
        self.words[i + 1 : i + 1] = words
        self.limits[i + 1 : i + 1] = [self.limits[i]] * len(words)
        space = "" if _IS_HAN.match(self.words[i]) and _IS_HAN.match(text) else " "
        self.gaps[i + 1 : i + 1] = [space] * len(words)

    def replace_span(self, start: int, end: int, words: Sequence[str], tags: Sequence[str]) -> None:
        """Put words with tags in the place of those from `start` to `end`; spaces stand between them."""
        assert self.tags is not None
        self.words[start:end] = words
        self.tags[start:end] = tags
        self.limits[start:end] = [self.limits[start]] * len(words)
        same = end - start == len(words)
        if not same:
            self.gaps[start + 1 : end] = [" "] * (len(words) - 1)

    def replace_all(self, text: str) -> None:
        """Put another text in the place of this one."""
        new = text_document(text, whole=True)
        self.words, self.gaps, self.limits = new.words, new.gaps, new.limits


def inside(tag: str) -> str:
    """The tag of a further word of an entity: I-X for B-X; any other tag continues as it is."""
    return f"I{tag[1:]}" if tag == "B" or tag.startswith("B-") else tag


@cache
def _punctuation() -> str:
    return "".join(c for c in map(chr, range(0x20000)) if unicodedata.category(c)[0] == "P")  # there is none beyond


def word_spans(text: str) -> list[Span]:
    """The words of a text as (first character, one past the last).

    Words stand between white space, and punctuation at their ends does not belong to them; every Han character is a word.
    """
    found, marks = [], _punctuation()
    for match in _WORD.finditer(text):
        whole = match[0]
        right = whole.rstrip(marks)
        if word := right.lstrip(marks):
            end = match.start() + len(right)
            found.append((end - len(word), end))
    return found


def text_document(text: str, fixed: Sequence[Span] = (), *, whole: bool = False) -> Document:
    """Makes a document of a text.

    Each of the spans `fixed`, ascending and disjoint, becomes one FIXED word, with all words that it shares characters with.
    """
    spans = word_spans(text)
    limits = [FREE] * len(spans)
    if fixed:
        spans, limits = _with_fixed(spans, fixed)
    words, gaps, at = [], [], 0
    for start, end in spans:
        gaps.append(text[at:start])
        words.append(text[start:end])
        at = end
    gaps.append(text[at:])
    return Document(words, gaps, limits, whole=whole)


def _with_fixed(spans: Sequence[Span], fixed: Sequence[Span]) -> tuple[list[Span], list[int]]:
    """(the spans, with those that touch a fixed one joined to it, the limit of each)."""
    labelled = sorted([(*span, FREE) for span in spans] + [(*span, FIXED) for span in fixed])
    joined: list[tuple[int, int, int]] = []
    for start, end, limit in labelled:
        if joined and start < joined[-1][1]:
            before = joined[-1]
            joined[-1] = (before[0], max(before[1], end), max(before[2], limit))
        else:
            joined.append((start, end, limit))
    return [(start, end) for start, end, _ in joined], [limit for *_, limit in joined]
