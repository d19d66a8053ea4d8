"""Splits text into words, as character offsets, so that every word can be found in the text again."""

import unicodedata
from functools import cache
from typing import Literal

Bounds = list[tuple[int, int]]

BLANK, ALONE, MARK, LETTER = range(4)
_NO_WIDTH = "\u200b\ufeff"  # spaces of width zero
_JOINER = "\u200d"
_VOICED = "\uff9e\uff9f"  # half-width kana sound marks, which Unicode classes as letters
# Scripts without spaces between words: first and last character of each range.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # half-width kana
    (0x20000, 0x3FFFF),  # Han
)
_SKIN = (0x1F3FB, 0x1F3FF)  # skin tones of emoji
_FLAG_LETTERS = (0x1F1E6, 0x1F1FF)


def split_text(text: str, how: Literal["punctuation", "spaces"] | str) -> Bounds:
    """Splits a text into words, each (first character, one past the last).

    `spaces` splits at white space and control characters; `punctuation` also around every punctuation mark and symbol, and
    around every character of scripts without spaces (Han, kana, Thai ...). Combining marks stay with their base character,
    and an emoji is one word.
    """
    bounds: Bounds = []
    begin, before = -1, BLANK
    for i, character in enumerate(text):
        kind = _kind(character)
        if kind == BLANK:
            if begin >= 0:
                bounds.append((begin, i))
            begin = -1
        elif begin < 0:
            begin = i
        elif how == "punctuation" and kind != MARK and _begins(text, begin, i, before, kind):
            bounds.append((begin, i))
            begin = i
        before = before if kind == MARK and begin != i else kind
    return [*bounds, (begin, len(text))] if begin >= 0 else bounds


def is_mark(character: str) -> bool:
    """Whether a character combines with the previous one (an accent, a vowel sign)."""
    return unicodedata.category(character)[0] == "M" or character in _VOICED


def unspaced(text: str) -> int:
    """The number of a text's characters that belong to scripts without spaces."""
    return sum(_is_unspaced(x) for x in text)


def _begins(text: str, begin: int, i: int, before: int, kind: int) -> bool:
    """Whether the character at `i` begins a new word, after the word that begins at `begin`."""
    if text[i - 1] == _JOINER and ALONE in (before, kind):  # the parts of an emoji stay together
        return before != kind
    if i == begin + 1 and _in(text[i], _FLAG_LETTERS) and _in(text[begin], _FLAG_LETTERS):
        return False
    return ALONE in (before, kind)


@cache
def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if character.isspace() or character in _NO_WIDTH or category == "Cc":
        return BLANK
    if is_mark(character) or category == "Cf" or _in(character, _SKIN):
        return MARK
    return ALONE if category[0] in "PS" or _is_unspaced(character) else LETTER


@cache
def _is_unspaced(character: str) -> bool:
    return any(_in(character, span) for span in _UNSPACED)


def _in(character: str, span: tuple[int, int]) -> bool:
    return span[0] <= ord(character) <= span[1]
