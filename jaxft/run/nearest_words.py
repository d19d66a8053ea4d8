"""The nearest words of a word in a model's table of word embeddings, as synonyms."""

from typing import Any

import numpy as np

from jaxft.core.tree import Params
from jaxft.data.augmentation.synonyms import FUNCTION_WORDS, Synonyms, table
from jaxft.data.tokens.encode import Examples
from jaxft.run.run_tokenizer import spellings

_BATCH = 256  # words that are compared with all others at once


def nearest_words(params: Params, tokenizer: Any, examples: Examples, count: int) -> Synonyms:
    """The `count` nearest words, by cosine, of the words of some examples that are one token each.

    Words are tokens of letters that begin a word; frequent function words have no synonyms, and are not synonyms.

    Args:
      params: of a model; its table of word embeddings is [V, D].
      tokenizer: a fast one.
      examples: the training data.
    """
    ids = tokenizer.get_vocab()
    embeddings = np.asarray(params["encoder"]["embeddings"]["word_embeddings"]["embedding"])
    words = {ids[token]: text for token, (text, begins) in spellings(tokenizer) if begins and _is_word(text)}
    known = np.array(sorted(words))
    known = known[known < len(embeddings)]
    vectors = embeddings[known].astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    asked = np.flatnonzero(np.isin(known, np.unique(examples.tokens["input_ids"])))
    found: dict[str, list[str]] = {}
    for start in range(0, len(asked), _BATCH):
        batch = asked[start : start + _BATCH]
        likeness = vectors[batch] @ vectors.T
        most = min(count + 3, likeness.shape[1] - 1)  # the word itself and its other spellings are among the nearest
        best = np.argpartition(-likeness, most, axis=1)[:, : most + 1]
        order = np.take_along_axis(best, np.argsort(-np.take_along_axis(likeness, best, 1), axis=1, kind="stable"), 1)
        for word, others in zip(batch, order, strict=True):
            text = words[int(known[word])]
            names = dict.fromkeys(words[int(known[i])] for i in others)
            found.setdefault(text.lower(), []).extend([x for x in names if x.lower() != text.lower()][:count])
    return table(found)


def _is_word(text: str) -> bool:
    return text.isalpha() and len(text) > 1 and text.lower() not in FUNCTION_WORDS
