"""What is measured of single texts: their words, the scripts of their letters, and the tokens that a vocabulary knows."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any

import numpy as np

from jaxft.config.clean import SCRIPTS
from jaxft.core.progress import Progress
from jaxft.data.formats.split_text import unspaced
from jaxft.data.reading.columns import CHUNK

OTHER = "Common"  # letters that belong to no single script
# The scripts of most texts, which are tried first.
_FREQUENT = ("Latin", "Han", "Cyrillic", "Arabic", "Hangul", "Devanagari", "Hiragana", "Katakana", "Greek", "Hebrew", "Thai")


def word_count(text: str) -> int:
    """The number of words between white space; every character of a script without spaces is a word."""
    words = text.split()
    return len(words) if text.isascii() else sum(max(1, unspaced(word)) for word in words)


def letters_by_script(text: str) -> Counter[str]:
    """The number of a text's letters of each Unicode script (UAX #24)."""
    if text.isascii():
        count = sum(map(str.isalpha, text))
        return Counter({"Latin": count} if count else {})
    found: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if character.isalpha():
            found[_script(character)] += count
    return found


def script_share(text: str, scripts: Collection[str]) -> float:
    """The share of a text's letters that are of one of the scripts; 1 for a text without letters."""
    found = letters_by_script(text)
    total = found.total()
    return sum(found[script] for script in scripts) / total if total else 1.0


@cache
def _patterns() -> dict[str, Any]:
    import regex

    names = dict.fromkeys([*_FREQUENT, *SCRIPTS])
    return {name: regex.compile(rf"\p{{Script={name}}}") for name in names}


@cache
def _script(character: str) -> str:
    return next((name for name, pattern in _patterns().items() if pattern.match(character)), OTHER)


def known_shares(texts: Collection[str], tokenizer: Any) -> np.ndarray:
    """The share of each text's tokens that are not the unknown token, float64 [N]; 0 for a text without tokens."""
    unknown, shares = tokenizer.unk_token_id, []
    progress = Progress("counting unknown tokens", len(texts))
    for chunk in _chunks(texts):
        progress.at(len(shares))
        encoded = tokenizer(chunk, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)
        shares += [1 - ids.count(unknown) / len(ids) if ids else 0.0 for ids in encoded["input_ids"]]
    return np.array(shares, np.float64)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
