"""Words to pieces: sentences that are split into words become examples, long ones several windows that overlap."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from jaxft.core.errors import UserError
from jaxft.core.progress import in_steps
from jaxft.core.ragged import offsets_of
from jaxft.data.formats.sentences import BEGINS, ENDS, TEXT, WORDS, file_of, glued, place
from jaxft.data.reading.columns import CHUNK
from jaxft.data.tokens.cache import Arrays, cached
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.tokenizer import has_token_types


@dataclass(frozen=True)
class Pieces:
    """Encoded sentences; a sentence is one example, or several windows of one.

    Attributes:
      examples: the windows.
      owners: the word, counted over all sentences, that each token is a piece of, int32 [total]; -1 for special tokens and
        for pieces of words that another window owns.
      sizes: words of each sentence, int64 [sentences].
    """

    examples: Examples
    owners: np.ndarray
    sizes: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """The token that is the first piece of each word, int64 [words]; -1 for a word that has no piece."""
        tokens = np.flatnonzero(self.owners >= 0)
        words, at = np.unique(self.owners[tokens], return_index=True)
        first = np.full(self.sizes.sum(), -1, np.int64)
        first[words] = tokens[at]
        return first


def encode_words(
    rows: Any,
    tokenizer: Any,
    directory: Path,
    *,
    max_length: int,
    stride: int | None,
    truncation: bool,
    use_cache: bool,
    origin: str,
) -> Pieces:
    """Tokenise the sentences of `read_sentences`.

    Args:
      rows: with a column of lists of words; where these were cut from texts, byte-level tokenizers see which of them
        follow each other without a space.
      tokenizer, directory: the tokenizer, which must be a fast one, and where it came from.
      max_length: longest window, special tokens included.
      stride: tokens that neighbouring windows share; None takes a quarter of `max_length`.
      truncation: cut longer sentences into windows; otherwise they are errors.
      use_cache: look in, and add to, the user's cache folder.
      origin: the file, for messages.

    Raises:
      UserError: for a tokenizer that cannot say which word a piece belongs to, a stride that leaves no room, or a sentence
        that is too long while truncation is off.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{directory}: {type(tokenizer).__name__} cannot say which word a token is of; token classification needs a "
            "fast tokenizer (tokenizer.json)"
        )
    stride = max_length // 4 if stride is None else stride
    settings = ["words", max_length, stride, truncation]

    def make() -> Arrays:
        return _tokenise(rows, tokenizer, max_length, stride, truncation, origin)

    found = cached(make, rows=rows, directory=directory, tokenizer=tokenizer, settings=settings, use=use_cache)
    tokens = {name: found[name] for name in ("input_ids", "token_type_ids")}
    return Pieces(Examples(tokens, np.asarray(found["offsets"]), {}), found["owners"], found["sizes"])


def _tokenise(rows: Any, tokenizer: Any, max_length: int, stride: int, truncation: bool, origin: str) -> Arrays:
    # A tokenizer of our own: its windows are nobody else's business.
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # Byte-level tokenizers know a word in the middle of a text by its space (Hugging Face: add_prefix_space).
    space = " " if _give_spaces(state["pre_tokenizer"]) else ""
    backend = tokenizers.Tokenizer.from_str(json.dumps(state))
    room = max_length - backend.num_special_tokens_to_add(False)
    if stride >= room:
        raise UserError(
            f"data.stride is {stride}: must be below {room}, which is data.max_length without the special tokens"
        )
    backend.no_padding()
    backend.enable_truncation(max_length, stride=stride, direction="right")
    typed = np.int8(has_token_types(tokenizer))
    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    sizes = np.empty(len(rows), np.int64)
    before = 0
    for start in in_steps(f"tokenising {origin}", len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        sentences = chunk[WORDS]
        spaced = [[word and space + word for word in words] for words in sentences]
        if space and TEXT in chunk:
            apart = zip(chunk[BEGINS], chunk[ENDS], sentences, strict=True)
            joins = [glued(begins, ends) or [False] * len(words) for begins, ends, words in apart]
            spaced = [[w[g:] for w, g in zip(words, own, strict=True)] for words, own in zip(spaced, joins, strict=True)]
        for i, encoding in enumerate(backend.encode_batch(spaced, is_pretokenized=True), start):
            windows = [encoding, *encoding.overflowing]
            if len(windows) > 1 and not truncation:
                raise UserError(
                    f"{file_of(rows, origin, i)}: the sentence at {place(rows, i)} has more than data.max_length "
                    f"{max_length} tokens; raise it or set data.truncation to true"
                )
            words = [np.array([-1 if w is None else w for w in window.word_ids], np.int32) for window in windows]
            ids += [np.asarray(window.ids, np.int32) for window in windows]
            types += [np.asarray(window.type_ids, np.int8) * typed for window in windows]
            owners += [np.where(own < 0, -1, own + before).astype(np.int32) for own in owned(words, room - stride)]
            sizes[i] = len(sentences[i - start])
            before += sizes[i]
    return {
        "input_ids": np.concatenate(ids),
        "token_type_ids": np.concatenate(types),
        "owners": np.concatenate(owners),
        "offsets": offsets_of([len(x) for x in ids]),
        "sizes": sizes,
    }


def _give_spaces(part: Any) -> bool:
    """Whether there is a byte-level part in a pre-tokenizer; it no longer adds a space of its own to words without one."""
    if isinstance(part, dict) and part.get("type") == "ByteLevel":
        part["add_prefix_space"] = False
        return True
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return sum(map(_give_spaces, inner)) > 0  # all of them are looked at


def owned(windows: Sequence[np.ndarray], step: int) -> list[np.ndarray]:
    """Give each word of a sentence to the window in which it has most context on its poorer side.

    Args:
      windows: word of each token, int32 [tokens]; -1 for special tokens.
      step: tokens, special ones left out, from the beginning of a window to that of the next.

    Returns:
      The same with -1 for the words of other windows. Of equal windows the earlier owns a word, and only a window that
      holds a word's first piece can.
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
