"""Noise on the letters of words: spelling mistakes, neighbouring keys, and case. A word stays one word."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from jaxft.data.augmentation.document import FREE, IN_PLACE, Document
from jaxft.data.augmentation.draws import Draws
from jaxft.data.augmentation.order import count_of
from jaxft.data.formats.split_text import is_mark

LETTERS = 3  # words with fewer letters have no spelling mistakes
_JOINER = "\u200d"
_KEYS = {
    "qwerty": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "qwertz": ("qwertzuiopü", "asdfghjklöä", "yxcvbnm"),
    "azerty": ("azertyuiop", "qsdfghjklm", "wxcvbn"),
}


def characters(word: str) -> list[str]:
    """The characters of a word as readers see them: marks and joined parts stay with what they are written on."""
    found: list[str] = []
    for x in word:
        joins = found and (is_mark(x) or x == _JOINER or found[-1].endswith(_JOINER) or unicodedata.category(x) == "Cf")
        if joins:
            found[-1] += x
        else:
            found.append(x)
    return found


@dataclass(frozen=True)
class Spelling:
    """One mistake in max(1, floor(rate * words)) words: a letter is left out, doubled, or exchanged with the next."""

    rate: float
    entities: bool = False

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        _edit(document, draws, self.rate, self._mistake, entities=self.entities)

    def _mistake(self, word: str, draws: Draws) -> str:
        letters = word if word.isascii() else characters(word)
        places = [i for i, x in enumerate(letters) if x[0].isalpha()]
        if len(places) < LETTERS:
            return word
        at, kind = draws.choice(places), draws.below(3)
        parts = list(letters)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts.insert(at, parts[at])
        else:
            other = at + 1 if at + 1 < len(parts) else at - 1
            parts[at], parts[other] = parts[other], parts[at]
        return "".join(parts)


@dataclass(frozen=True)
class Keyboard:
    """A letter of max(1, floor(rate * words)) words becomes that of a neighbouring key."""

    rate: float
    layout: str = "qwerty"
    entities: bool = False
    neighbours: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "neighbours", neighbouring_keys(self.layout))

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        _edit(document, draws, self.rate, self._slip, entities=self.entities)

    def _slip(self, word: str, draws: Draws) -> str:
        places = [i for i, x in enumerate(word) if x.lower() in self.neighbours]
        if not places:
            return word
        at = draws.choice(places)
        key = draws.choice(self.neighbours[word[at].lower()])
        return f"{word[:at]}{key.upper() if word[at].isupper() else key}{word[at + 1 :]}"


def neighbouring_keys(layout: str) -> dict[str, str]:
    """The keys beside, above and below each letter; each row of a keyboard is half a key to the right of the one above."""
    rows = _KEYS[layout]
    at = {key: (row, column) for row, keys in enumerate(rows) for column, key in enumerate(keys)}
    steps = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))
    keys = {place: key for key, place in at.items()}
    return {key: "".join(keys.get((r + dr, c + dc), "") for dr, dc in steps) for key, (r, c) in at.items()}


@dataclass(frozen=True)
class Case:
    """Changes the case of max(1, floor(rate * words)) words."""

    rate: float
    to: str = "random"
    entities: bool = False

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        _edit(document, draws, self.rate, self._changed, entities=self.entities)

    def _changed(self, word: str, draws: Draws) -> str:
        if self.to != "random":
            return CASES[self.to](word)
        others = [x for x in dict.fromkeys(change(word) for change in CASES.values()) if x != word]
        return draws.choice(others) if others else word


CASES: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "title": lambda word: word[:1].upper() + word[1:].lower(),
    "swap": str.swapcase,
}


def _edit(document: Document, draws: Draws, rate: float, change: Callable[[str, Draws], str], *, entities: bool) -> None:
    candidates = document.editable(IN_PLACE if entities else FREE)
    left = count_of(rate, len(candidates))
    for i in draws.shuffled(candidates) if left else ():
        word = document.words[i]
        if (new := change(word, draws)) != word:
            document.words[i] = new
            left -= 1
            if not left:
                return
