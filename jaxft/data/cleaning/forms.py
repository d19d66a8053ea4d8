"""The forms in which texts are compared: exactly, and by their words; and which of them are equal."""

import hashlib
import unicodedata
from collections.abc import Iterable

import numpy as np

from jaxft.core.progress import Progress

_APOSTROPHES = "'`\u2018\u2019\u02bc"
_WITHOUT_SPACES = ((0x2E80, 0xA4CF), (0xF900, 0xFAFF), (0x1B000, 0x1B16F), (0x20000, 0x3FFFF))  # Han, kana, bopomofo, Yi


def exact_form(text: str) -> str:
    """The text after NFKC, case folding and collapsing of whitespace: equal for exact duplicates."""
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


class _Words(dict[int, str]):
    """A table for str.translate that makes punctuation a space and sets ideographs and kana apart; filled at first use."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Cf", "Cs") or character in _APOSTROPHES:
            found = ""
        elif category == "Cc" or category[0] in "PZ":
            found = " "
        else:
            found = f" {character} " if any(first <= code <= last for first, last in _WITHOUT_SPACES) else character
        self[code] = found
        return found


_WORDS = _Words()


def word_form(text: str) -> str:
    """The words of the exact form without punctuation, each between two spaces; equal for texts that differ in no word.

    An ideograph or kana is a word, since spaces do not say where words begin. A text of punctuation has its exact form.
    """
    exact = exact_form(text)
    words = exact.translate(_WORDS).split()
    return f" {' '.join(words)} " if words else exact


def first_of_equal(forms: Iterable[str], progress: Progress) -> np.ndarray:
    """The number of the first form that is equal to each: int64 [N].

    Forms are compared by 128 bits of BLAKE2b, so 16 bytes of each are in memory.
    """
    digests = bytearray()
    for row, form in enumerate(forms):
        progress.at(row)
        digests += hashlib.blake2b(form.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    pairs = np.frombuffer(bytes(digests), np.uint64).reshape(-1, 2)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))  # stable: equal ones stay in the order of their rows
    ordered = pairs[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(1)
    found = np.empty(len(order), np.int64)
    found[order] = order[is_first][np.cumsum(is_first) - 1]
    return found
