"""Entities as spans of characters: what annotation tools and pipelines write, and tags of words made of it."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxft.core.errors import UserError
from jaxft.data.formats.split_text import Bounds, split_text
from jaxft.data.formats.tags import OUTSIDE, parse

# What the parts of a span are called by doccano, Label Studio, Prodigy, spaCy, Hugging Face's pipelines and this package.
_START = ("start", "start_offset", "begin")
_END = ("end", "end_offset", "stop")
_KIND = ("label", "labels", "entity_group", "type", "entity_type", "entity", "tag")


@dataclass(frozen=True)
class Span:
    """An entity: a type, its first character, one past the last, and perhaps its text."""

    kind: str
    start: int
    end: int
    text: str | None = None


def are_spans(value: Any) -> bool:
    """Whether a value is a list of spans, which are lists or objects, and not of tags."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(x, list | tuple | Mapping) for x in value)


def read_spans(values: Iterable[Any], text: str, where: str) -> list[Span]:
    """The spans of a text, sorted, and checked against it.

    Args:
      values: [start, end, type], or objects that name these; equal ones are one.
      text: of the row. Where a span says its own text, it must stand there; offsets may then count UTF-16 units, as
        JavaScript does.
      where: file and row, for messages.

    Raises:
      UserError: for a span that is none, is empty or outside of the text, or that overlaps another.
    """
    found = {_placed(_span(value, where), text, where) for value in values}
    spans = sorted(found, key=lambda span: (span.start, span.end, span.kind))
    for before, span in itertools.pairwise(spans):
        if span.start < before.end:
            raise UserError(
                f"{where}: {_shown(before, text)} and {_shown(span, text)} overlap; a word has one tag, so keep one of them"
            )
    return spans


def tags_of(text: str, spans: Sequence[Span], how: str) -> tuple[Bounds, list[str], int]:
    """A text as words and IOB2 tags.

    Args:
      text: of the row.
      spans: sorted, without overlap.
      how: as in `split_text`. A word that an entity begins or ends within is cut there.

    Returns:
      (the words' characters, their tags, how many words were cut).
    """
    edges = {edge for span in spans for edge in (span.start, span.end)}
    bounds: Bounds = []
    cut = 0
    for begin, end in split_text(text, how):
        places = [begin, *sorted(x for x in edges if begin < x < end), end]
        bounds += itertools.pairwise(places)
        cut += len(places) > 2
    tags = [OUTSIDE] * len(bounds)
    at = 0
    for span in spans:
        while bounds[at][0] < span.start:
            at += 1
        letter = "B"
        while at < len(bounds) and bounds[at][1] <= span.end:
            tags[at], letter = f"{letter}-{span.kind}", "I"
            at += 1
    return bounds, tags, cut


def _span(value: Any, where: str) -> Span:
    if isinstance(value, Mapping):
        start, end, kind = (_first(value, names) for names in (_START, _END, _KIND))
        if kind is value.get("entity") and (parsed := parse(str(kind))) and parsed[1]:
            raise UserError(
                f'{where}: has "{kind}", the tag of a piece and no entity; give the pipeline an aggregation_strategy'
            )
    elif len(value) == 3:
        start, end, kind = value
    else:
        start = end = kind = None
    if isinstance(kind, list | tuple) and len(kind) == 1:
        kind = kind[0]
    first, last = _whole(start), _whole(end)
    if first is None or last is None or not isinstance(kind, str) or not kind.strip():
        raise UserError(
            f"{where}: has the span {repr(value)[:80]}: must be [start, end, label], or an object with start, end and one "
            "label"
        )
    own = value.get("text") if isinstance(value, Mapping) else None
    return Span(kind.strip(), first, last, own if isinstance(own, str) and own else None)


def _first(value: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)


def _whole(value: Any) -> int | None:
    """A whole number, perhaps written as text or with a fraction of 0."""
    try:
        number = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number is not None and abs(number) < 2**53 and number == int(number) else None


def _placed(span: Span, text: str, where: str) -> Span:
    """The span without the blanks at its ends, once it is where it says."""
    name = f"the span {span.start} to {span.end} ({span.kind})"
    if span.start == span.end:
        raise UserError(f"{where}: {name} is empty")
    if not 0 <= span.start < span.end:
        raise UserError(f"{where}: {name} {'begins before the text' if span.start < 0 else 'ends before it begins'}")
    start, end = span.start, span.end
    if span.text is not None and not _same(text[start:end], span.text):
        units = text.encode("utf-16-le", "surrogatepass")
        before, own = (units[2 * a : 2 * b].decode("utf-16-le", "replace") for a, b in ((0, start), (start, end)))
        if not _same(own, span.text):
            there = text[start:end][:60]
            raise UserError(f'{where}: {name} is "{there}" in the text, but should be "{span.text[:60]}"')
        start, end = len(before), len(before) + len(own)
    if end > len(text):
        raise UserError(f"{where}: {name} is outside of the text, which has {len(text)} characters")
    words = split_text(text[start:end], "spaces")
    if not words:
        raise UserError(f"{where}: {name} holds no word")
    return Span(span.kind, start + words[0][0], start + words[-1][1])


def _same(text: str, other: str) -> bool:
    """Whether texts are the same but for white space, which tools write in their own ways."""
    return text == other or "".join(text.split()) == "".join(other.replace("\\n", " ").split())


def _shown(span: Span, text: str) -> str:
    return f'"{text[span.start : span.end][:40]}" ({span.start} to {span.end}, {span.kind})'
