"""The most frequent words of texts that a tokenizer splits into many pieces."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from jaxft.core.errors import UserError

_WORD = re.compile(r"\w+")
BATCH = 1000  # words tokenised at once


def most_frequent(texts: Iterable[str], tokenizer: Any, count: int, min_pieces: int, *, known: Collection[str]) -> list[str]:
    """So many words, the most frequent first, equally frequent ones in the order of the alphabet.

    Args:
      texts: where words are counted: runs of letters and digits, with a letter, in what the tokenizer makes of a text before
        it looks for pieces (normalised, cut at spaces and perhaps at punctuation).
      tokenizer: a fast one.
      count: how many words.
      min_pieces: that they split into at least.
      known: words that are left out.

    Raises:
      UserError: when there are fewer.
    """
    backend = tokenizer.backend_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
        # Places in the text, for byte-level tokenizers spell what they cut in another alphabet.
        cut = backend.pre_tokenizer.pre_tokenize_str(normal) if backend.pre_tokenizer else [(normal, (0, len(normal)))]
        for _, (start, stop) in cut:
            counts.update(_WORD.findall(normal[start:stop]))
    words = [word for word in counts if word not in known and any(map(str.isalpha, word))]
    order = sorted(words, key=lambda word: (-counts[word], word))
    found: list[str] = []
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        pieces = tokenizer([f" {word}" for word in some], add_special_tokens=False)["input_ids"]
        found += [word for word, its in zip(some, pieces, strict=True) if len(its) >= min_pieces]
        if len(found) >= count:
            return found[:count]
    raise UserError(
        f"vocabulary.most_frequent is {count}, but only {len(found)} words of the training texts split into {min_pieces} "
        "pieces or more: lower it, or vocabulary.min_pieces"
    )
