"""Entities as character spans, as annotation tools and pipelines write them, and their conversion to tags of words."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxft.core.errors import UserError
from jaxft.data.formats.split_text import Bounds, split_text
from jaxft.data.formats.tags import OUTSIDE, parse

# Keys of a span in doccano, Label Studio, Prodigy, spaCy, Hugging Face's pipelines and this package.
_START = ("start", "start_offset", "begin")
_END = ("end", "end_offset", "stop")
_KIND = ("label", "labels", "entity_group", "type", "entity_type", "entity", "tag")


@dataclass(frozen=True)
class Span:
    """An entity: its type, its first character, one past its last, and its text if the data contain it."""

    kind: str
    start: int
    end: int
    text: str | None = None


def are_spans(value: Any) -> bool:
    """Whether a value is a list of spans (lists or objects) rather than of tags."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(x, list | tuple | Mapping) for x in value)


def read_spans(values: Iterable[Any], text: str, where: str) -> list[Span]:
    """Reads the spans of a text, checks them against it, and sorts them.

    Args:
      values: lists [start, end, type], or objects with these keys; duplicates are dropped.
      text: the text of the row. If a span contains its text, that must be found at its offsets, which may then count
        UTF-16 units, as in JavaScript.

    Raises:
      UserError: for a malformed or empty span, one outside of the text, or one that overlaps another.
    """
    unique = {_checked(_parse_span(value, where), text, where) for value in values}
    spans = sorted(unique, key=lambda span: (span.start, span.end, span.kind))
    for before, span in itertools.pairwise(spans):
        if span.start < before.end:
            both = f"{_describe(before, text)} and {_describe(span, text)}"
            raise UserError(f"{where}: {both} overlap; a word has one tag, so keep one of them")
    return spans


def tags_of(text: str, spans: Sequence[Span], how: str) -> tuple[Bounds, list[str], int]:
    """Splits a text into words, as `split_text` does, with IOB2 tags of `spans`, which are sorted and do not overlap.

    Returns:
      (the words' bounds, their tags, the number of words that were cut because an entity begins or ends within them).
    """
    edges = {edge for span in spans for edge in (span.start, span.end)}
    bounds: Bounds = []
    cut = at = 0
    for begin, end in split_text(text, how):
        edges_in_word = [begin, *sorted(x for x in edges if begin < x < end), end]
        bounds += itertools.pairwise(edges_in_word)
        cut += len(edges_in_word) > 2
    tags = [OUTSIDE] * len(bounds)
    for span in spans:
        while bounds[at][0] < span.start:
            at += 1
        letter = "B"
        while at < len(bounds) and bounds[at][1] <= span.end:
            tags[at], letter = f"{letter}-{span.kind}", "I"
            at += 1
    return bounds, tags, cut


def _parse_span(value: Any, where: str) -> Span:
    if isinstance(value, Mapping):
        start, end, kind = (_first(value, names) for names in (_START, _END, _KIND))
        if kind is value.get("entity") and (parsed := parse(str(kind))) and parsed[1]:
            raise UserError(
                f'{where}: has "{kind}", the tag of a token and not an entity; give the pipeline an aggregation_strategy'
            )
    elif len(value) == 3:
        start, end, kind = value
    else:
        start = end = kind = None
    if isinstance(kind, list | tuple) and len(kind) == 1:
        kind = kind[0]
    first, last = _as_int(start), _as_int(end)
    if first is None or last is None or not isinstance(kind, str) or not kind.strip():
        raise UserError(
            f"{where}: has the span {repr(value)[:80]}: must be [start, end, label], or an object with start, end and one "
            "label"
        )
    span_text = value.get("text") if isinstance(value, Mapping) else None
    return Span(kind.strip(), first, last, span_text if isinstance(span_text, str) and span_text else None)


def _first(value: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)


def _as_int(value: Any) -> int | None:
    """A value as an int if it is a whole number, also as text or with a fraction of 0; else None."""
    try:
        number = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number is not None and abs(number) < 2**53 and number == int(number) else None


def _checked(span: Span, text: str, where: str) -> Span:
    """Checks a span against the text and strips the white space at its ends."""
    name = f"the span {span.start} to {span.end} ({span.kind})"
    if span.start == span.end:
        raise UserError(f"{where}: {name} is empty")
    if not 0 <= span.start < span.end:
        raise UserError(f"{where}: {name} {'begins before the text' if span.start < 0 else 'ends before it begins'}")
    start, end = span.start, span.end
    if span.text is not None and not _same(text[start:end], span.text):
        units = text.encode("utf-16-le", "surrogatepass")
        before, unit_text = (units[2 * a : 2 * b].decode("utf-16-le", "replace") for a, b in ((0, start), (start, end)))
        if not _same(unit_text, span.text):
            actual = text[start:end][:60]
            raise UserError(f'{where}: {name} is "{actual}" in the text, but should be "{span.text[:60]}"')
        start, end = len(before), len(before) + len(unit_text)
    if end > len(text):
        raise UserError(f"{where}: {name} is outside of the text, which has {len(text)} characters")
    words = split_text(text[start:end], "spaces")
    if not words:
        raise UserError(f"{where}: {name} contains no word")
    return Span(span.kind, start + words[0][0], start + words[-1][1])


def _same(text: str, other: str) -> bool:
    """Whether texts are equal except for white space, which tools write in different ways."""
    return text == other or "".join(text.split()) == "".join(other.replace("\\n", " ").split())


def _describe(span: Span, text: str) -> str:
    return f'"{text[span.start : span.end][:40]}" ({span.start} to {span.end}, {span.kind})'
