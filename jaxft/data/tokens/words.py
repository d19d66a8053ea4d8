"""Tokenises sentences that are split into words; long sentences become several overlapping windows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.core.progress import in_steps
from jaxft.core.ragged import offsets_of
from jaxft.data.formats.sentences import BEGINS, ENDS, TEXT, WORDS, location, without_space
from jaxft.data.reading.columns import CHUNK
from jaxft.data.tokens.cache import Arrays, cached
from jaxft.data.tokens.encode import Examples, token_ids
from jaxft.data.tokens.tokenizer import has_token_types


@dataclass(frozen=True)
class Pieces:
    """Encoded sentences; a sentence is one example, or several windows.

    Attributes:
      examples: the windows.
      owners: the word, counted over all sentences, that each token belongs to, int32 [total]; -1 for special tokens and for
        tokens of words that another window owns.
      sizes: number of words of each sentence, int64 [sentences].
      windows: number of windows of each sentence, int64 [sentences].
    """

    examples: Examples
    owners: np.ndarray
    sizes: np.ndarray
    windows: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """The index of each word's first token, int64 [words]; -1 for a word without tokens."""
        tokens = np.flatnonzero(self.owners >= 0)
        words, at = np.unique(self.owners[tokens], return_index=True)
        first = np.full(self.sizes.sum(), -1, np.int64)
        first[words] = tokens[at]
        return first


def encode_words(rows: Any, tokenizer: Any, directory: Path, config: DataConfig, origin: str) -> Pieces:
    """Tokenises the sentences of `read_sentences`.

    Args:
      rows: with a column of lists of words. If the words were split from texts, byte-level tokenizers see which words follow
        one another without a space.
      config: its `max_length` limits a window, special tokens included. With `truncation` longer sentences are split into
        windows that share `stride` tokens, by default a quarter of a window; otherwise they are errors.
      tokenizer, directory, origin: as in `encode_texts`.

    Raises:
      UserError: for a tokenizer that cannot map tokens to words, a stride as long as a window, or a sentence too long if
        truncation is off.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{directory}: {type(tokenizer).__name__} cannot say which word a token is of; token classification needs a "
            "fast tokenizer (tokenizer.json)"
        )
    stride = config.window_stride
    make = partial(_tokenise, rows, tokenizer, config.max_length, stride, config.truncation, origin)
    settings = ["words", config.max_length, stride, config.truncation]
    arrays = cached(make, rows=rows, directory=directory, tokenizer=tokenizer, settings=settings, use=config.cache)
    examples = Examples(token_ids(arrays), np.asarray(arrays["offsets"]), {})
    return Pieces(examples, arrays["owners"], arrays["sizes"], arrays["windows"])


def _tokenise(rows: Any, tokenizer: Any, max_length: int, stride: int, truncation: bool, origin: str) -> Arrays:
    backend, space = word_tokenizer(tokenizer, max_length, stride)
    capacity = max_length - backend.num_special_tokens_to_add(False)
    typed = np.int8(has_token_types(tokenizer))
    ids, types, owners, sizes, counts, before = [], [], [], [], [], 0
    for start in in_steps(f"tokenising {origin}", len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        sentences = chunk[WORDS]
        spaced = [[word and space + word for word in words] for words in sentences]
        if space and TEXT in chunk:
            bounds = zip(chunk[BEGINS], chunk[ENDS], sentences, strict=True)
            unspaced = [without_space(begins, ends) or [False] * len(words) for begins, ends, words in bounds]
            # Drops the space again from words that follow the previous word without one.
            spaced = [[w[u:] for w, u in zip(words, us, strict=True)] for words, us in zip(spaced, unspaced, strict=True)]
        for i, encoding in enumerate(backend.encode_batch(spaced, is_pretokenized=True), start):
            windows = [encoding, *encoding.overflowing]
            if len(windows) > 1 and not truncation:
                file, line = location(rows, origin, i)
                raise UserError(
                    f"{file}: the sentence at {line} has more than data.max_length {max_length} tokens; raise it or set "
                    "data.truncation to true"
                )
            words = [np.array([-1 if w is None else w for w in window.word_ids], np.int32) for window in windows]
            ids += [np.asarray(window.ids, np.int32) for window in windows]
            types += [np.asarray(window.type_ids, np.int8) * typed for window in windows]
            owned = owned_words(words, capacity - stride)
            owners += [np.where(word < 0, -1, word + before).astype(np.int32) for word in owned]
            sizes.append(len(sentences[i - start]))
            counts.append(len(windows))
            before += sizes[-1]
    return {
        "input_ids": np.concatenate(ids),
        "token_type_ids": np.concatenate(types),
        "owners": np.concatenate(owners),
        "offsets": offsets_of([len(x) for x in ids]),
        "sizes": np.array(sizes, np.int64),
        "windows": np.array(counts, np.int64),
    }


def word_tokenizer(tokenizer: Any, max_length: int, stride: int) -> tuple[Any, str]:
    """(a `tokenizers.Tokenizer` of lists of words in windows, what stands before a word that follows a space).

    Raises:
      UserError: for a stride as long as a window.
    """
    # A copy of the tokenizer, since windows are configured on it.
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # Byte-level tokenizers recognise a word within a text by its leading space (Hugging Face: add_prefix_space).
    space = " " if _disable_prefix_space(state["pre_tokenizer"]) else ""
    backend = tokenizers.Tokenizer.from_str(json.dumps(state))
    capacity = max_length - backend.num_special_tokens_to_add(False)
    if stride >= capacity:
        fault = f"must be below {capacity}, which is data.max_length without the special tokens"
        raise UserError(f"data.stride is {stride}: {fault}")
    backend.no_padding()
    backend.enable_truncation(max_length, stride=stride, direction="right")
    return backend, space


def _disable_prefix_space(part: Any) -> bool:
    """Whether a pre-tokenizer has a byte-level part. Such parts are changed not to add a space to words by themselves."""
    if isinstance(part, dict) and part.get("type") == "ByteLevel":
        part["add_prefix_space"] = False
        return True
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return sum(map(_disable_prefix_space, inner)) > 0  # `sum`, since `any` would stop at the first


def owned_words(windows: Sequence[np.ndarray], step: int) -> list[np.ndarray]:
    """Assigns each word of a sentence to the window in which its shorter side of context is longest.

    Args:
      windows: for each window the word of each token, int32 [tokens]; -1 for special tokens.
      step: tokens, without special ones, between the beginnings of consecutive windows.

    Returns:
      The same arrays with -1 for words that other windows own. Only a window that contains a word's first token can own it;
      of equal windows the earlier one does.
    """
    if len(windows) == 1:
        return list(windows)
    words = 1 + max(int(window.max()) for window in windows)
    first, last = np.full(words, np.iinfo(np.int64).max), np.full(words, -1)
    for start, window in enumerate(windows):
        real = window[window >= 0]
        position = start * step + np.arange(len(real))
        np.minimum.at(first, real, position)
        np.maximum.at(last, real, position)
    context = np.full((len(windows), words), np.iinfo(np.int64).min)
    for i, window in enumerate(windows):
        begin, end = i * step, i * step + (window >= 0).sum()
        inside = (first >= begin) & (first < end)
        context[i, inside] = np.minimum(first - begin, end - 1 - last)[inside]
    owner = context.argmax(axis=0)
    return [np.where((window >= 0) & (owner[window] == i), window, -1) for i, window in enumerate(windows)]
