"""The cleaning steps of a text. Each finds the edits that it would make, so that offsets can follow."""

import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal

from jaxft.data.cleaning.edits import Edit

Form = Literal["NFC", "NFKC"]
Step = Callable[[str], list[Edit]]

# Without a glyph and without an effect on the glyphs around them. Joiners (U+200C, U+200D), variation selectors and marks
# of direction are not among them: emoji, Persian, Indic and right-to-left texts need them.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff\ufff9-\ufffb\ufffe\uffff]+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_TAG = re.compile(r"<!--|<(script|style)\b[^<>]*>|</?[A-Za-z][A-Za-z0-9:-]*(?:\s[^<>]*)?/?>", re.I)
_ENDS = {name: re.compile(rf"</{name}\s*>", re.I) for name in ("script", "style")} | {"": re.compile("-->")}
_INLINE = "a abbr b bdi bdo cite code del dfn em font i ins kbd mark q s samp small span strong sub sup u var"
_INLINE_NAMES = frozenset(_INLINE.split())
_SPACES = re.compile(r"\s+")


def normalize(form: Form) -> Step:
    """Unicode normalisation (UAX #15)."""
    return lambda text: [] if unicodedata.is_normalized(form, text) else list(_normalized(form, text))


def _normalized(form: Form, text: str) -> Iterator[Edit]:
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or _is_boundary(form, text, start, end):
            yield Edit(start, end, unicodedata.normalize(form, text[start:end]))
            start = end


def _is_boundary(form: Form, text: str, start: int, end: int) -> bool:
    """Whether the characters before `end`, from `start` on, do not interact with those from `end` on."""
    if unicodedata.combining(text[end]):
        return False
    return _is_stable(form, text[start:end][-8:] + text[end], 1)


@lru_cache(maxsize=1 << 14)
def _is_stable(form: Form, pair: str, tail: int) -> bool:
    left, right = pair[:-tail], pair[-tail:]
    whole = unicodedata.normalize(form, left) + unicodedata.normalize(form, right)
    first = unicodedata.normalize("NFKD" if form == "NFKC" else "NFD", right)[0]
    return not unicodedata.combining(first) and unicodedata.normalize(form, pair) == whole


def remove_control_characters(text: str) -> list[Edit]:
    """Removes control characters other than tab and line ends, soft hyphens, zero-width spaces and byte order marks."""
    return [Edit(*m.span(), "") for m in _INVISIBLE.finditer(text)]


def unescape_entities(text: str) -> list[Edit]:
    """Replaces HTML entities, such as &amp; and &#39;, by their characters. Names that HTML does not know stay."""
    return [Edit(*m.span(), html.unescape(m[0])) for m in _ENTITY.finditer(text)]


def remove_tags(text: str) -> list[Edit]:
    """Removes HTML tags, comments, scripts and styles; a tag that ends a line or a block becomes a space."""
    return [Edit(a, b, "" if _tag_name(text[a:b]) in _INLINE_NAMES else " ") for a, b in _tags(text)]


def _tags(text: str) -> Iterator[tuple[int, int]]:
    """Where tags are, and comments, scripts and styles with their content; in time linear in the length of the text."""
    position, unclosed = 0, set[str]()
    while found := _TAG.search(text, position):
        position, kind = found.end(), (found[1] or "").lower()
        closes = found[0] == "<!--" or kind
        end = _ENDS[kind].search(text, position) if closes and kind not in unclosed else None
        if end:
            position = end.end()
        elif closes:
            unclosed.add(kind)  # nothing ends it in the rest of the text
        if end or found[0] != "<!--":
            yield found.start(), position


def _tag_name(tag: str) -> str:
    found = re.match(r"</?([A-Za-z][A-Za-z0-9]*)", tag)
    return found[1].lower() if found else ""


def collapse_whitespace(text: str) -> list[Edit]:
    """Makes every run of whitespace one space, and removes it at both ends."""
    return [Edit(*m.span(), " " if m.start() > 0 and m.end() < len(text) else "") for m in _SPACES.finditer(text)]


def substitute(pattern: re.Pattern[str], replacement: str) -> Step:
    """Replaces every match of a pattern; `replacement` may refer to groups as in `re.sub`."""
    return lambda text: [Edit(*m.span(), m.expand(replacement)) for m in pattern.finditer(text) if m.group() or replacement]
