"""Makes examples of spans of a stream of token ids, with the tokenizer's special tokens around them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxft.core.errors import UserError
from jaxft.core.ragged import offsets_of, places_in_rows
from jaxft.data.tokens.cache import Arrays
from jaxft.data.tokens.tokenizer import has_token_types


@dataclass(frozen=True)
class Frame:
    """The special tokens around one text, or around two.

    Attributes:
      tokens: ids of the special tokens before the first text, after it (and after the second).
      token_types: the token types of these special tokens.
      text_types: the token types of the texts.
      special: the ids of all special tokens, which are never part of a word.
    """

    tokens: tuple[tuple[int, ...], ...]
    token_types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]
    special: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of special tokens per example."""
        return sum(map(len, self.tokens))

    @property
    def last(self) -> tuple[int, ...]:
        """The token that ends an example, if there is one."""
        return self.tokens[-1][-1:]


def frame_of(tokenizer: Any, texts: int, max_length: int) -> Frame:
    """The special tokens that a tokenizer adds to one or two texts.

    Raises a UserError if `max_length` leaves no room for one token of each text.
    """
    encoded = tokenizer(*["a"] * texts, return_special_tokens_mask=True, return_token_type_ids=True)
    names = ("input_ids", "token_type_ids", "special_tokens_mask")
    ids, types, special = (np.asarray(encoded[name], np.int64) for name in names)
    types = types * has_token_types(tokenizer)
    begins = np.diff(special, prepend=1) < 0  # whether a token is the first of its text
    groups = [(special == 1) & (np.cumsum(begins) == i) for i in range(begins.sum() + 1)]
    frame = Frame(
        tokens=tuple(tuple(ids[group].tolist()) for group in groups),
        token_types=tuple(tuple(types[group].tolist()) for group in groups),
        text_types=tuple(types[begins].tolist()),
        special=tuple(sorted({*tokenizer.all_special_ids, *ids[special == 1].tolist()})),
    )
    if max_length < frame.size + texts:
        raise UserError(
            f"data.max_length is {max_length}: must be at least {frame.size + texts} for this task and tokenizer"
        )
    return frame


def join_spans(ids: np.ndarray, begins: np.ndarray, spans: np.ndarray, frame: Frame) -> Arrays:
    """Makes examples from spans of a stream.

    Args:
      ids, begins: int32 and bool [stream tokens], as in `Stream`.
      spans: int64 [N, texts, 2], where the texts of each example begin and end in the stream.
      frame: the special tokens around that number of texts.

    Returns:
      `input_ids`, `token_type_ids` and `words` [total] with `offsets` int64 [N + 1]. `words` is the position in its example,
      counted from 1, of the first token of a token's word, and 0 for special tokens.
    """
    counts = spans[..., 1] - spans[..., 0]
    offsets = offsets_of(counts.sum(1) + frame.size)
    total, at = offsets[-1], offsets[:-1].copy()
    out, types, first = np.zeros(total, np.int32), np.zeros(total, np.int8), np.ones(total, bool)
    for i, (tokens, token_types) in enumerate(zip(frame.tokens, frame.token_types, strict=True)):
        for token, kind in zip(tokens, token_types, strict=True):
            out[at], types[at] = token, kind
            at += 1
        if i == len(frame.text_types):
            break
        size = counts[:, i]
        inside = places_in_rows(size)
        source, target = np.repeat(spans[:, i, 0], size) + inside, np.repeat(at, size) + inside
        out[target], types[target] = ids[source], frame.text_types[i]
        first[target] = begins[source] | (inside == 0)
        at += size
    position = np.maximum.accumulate(np.where(first, np.arange(total), 0)) - np.repeat(offsets[:-1], np.diff(offsets))
    words = np.where(np.isin(out, frame.special), 0, position + 1).astype(np.int32)
    return {"input_ids": out, "token_type_ids": types, "words": words, "offsets": offsets}
