"""Replacements in a text, and where a span of the text stands after them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Span = tuple[int, int]  # (first character, one past the last)


@dataclass(frozen=True, order=True)
class Edit:
    """Replace the characters from `start` to `end` (exclusive) by `text`; an insertion has `start == end`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Edited:
    """A text after edits.

    Attributes:
      text: the new text.
      edits: the edits, in order; they do not overlap.
    """

    text: str
    edits: Sequence[Edit]

    def span(self, start: int, end: int) -> Span | None:
        """The span of the new text that holds what the old text has from `start` to `end`.

        Text that is inserted at either end of a span does not belong to it. An edit inside the span changes its content.

        Returns:
          None if nothing of the span is left, or if an edit replaces characters on both sides of its start or end, so that
          the new text does not say where the span begins or ends.
        """
        shift = first_shift = 0
        for edit in self.edits:
            if edit.start >= end and (edit.end > end or edit.start > start):
                break
            if edit.start < start < edit.end or edit.start < end < edit.end:
                return None
            shift += len(edit.text) - (edit.end - edit.start)
            if edit.end <= start:
                first_shift = shift
        found = start + first_shift, end + shift
        return found if found[0] < found[1] else None


def apply(text: str, edits: Iterable[Edit]) -> Edited:
    """Apply edits to a text; those that change nothing are left out.

    Raises:
      ValueError: if two edits overlap.
    """
    chosen = sorted(x for x in edits if text[x.start : x.end] != x.text)
    for left, right in pairwise(chosen):
        if right.start < left.end or (left.start, left.end) == (right.start, right.end):
            raise ValueError(f"edits overlap: {left} and {right}")
    parts, at = [], 0
    for edit in chosen:
        parts += [text[at : edit.start], edit.text]
        at = edit.end
    return Edited("".join([*parts, text[at:]]), chosen)
