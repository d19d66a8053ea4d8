"""Tokenises the texts of a pipeline as transformers does, without its costs for each call."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxft.config import CleanConfig
from jaxft.core.errors import UserError
from jaxft.core.ragged import offsets_of
from jaxft.data.cleaning.cleaner import Cleaned, Cleaner
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.tokenizer import has_token_types

Text = str | tuple[str, str]  # a text, or a pair of texts
PROBES: tuple[Text, ...] = ("A text with Ünïcode, [MASK] and 12 numbers.", ("One.", "Two, 三 and four."), "")


class TextEncoder:
    """Tokenises texts and pairs of texts into examples.

    Args of the constructor:
      tokenizer: of transformers.
      max_length: tokens of the longest example, special tokens included; longer ones are truncated.
      clean: the steps that clean each text first.
    """

    def __init__(self, tokenizer: Any, max_length: int, clean: CleanConfig) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.cleaner = Cleaner(clean)
        self._typed = has_token_types(tokenizer)
        self._fast = bool(getattr(tokenizer, "is_fast", False))
        if self._fast:  # transformers configures the fast tokenizer at each call: truncation, padding, template
            self._fast = self._plain(PROBES) == self._encoded(PROBES)

    def clean(self, text: str) -> Cleaned:
        """A text after the cleaning steps."""
        return self.cleaner(text) if self.cleaner else Cleaned(text)

    def __call__(self, texts: Sequence[Text]) -> Examples:
        """The examples of texts that have been cleaned."""
        ids, types = (self._encoded if self._fast else self._plain)(texts)
        return examples_of(ids, types if self._typed else None)

    def encodings(self, texts: Sequence[str], *, words: bool = False) -> list[Any]:
        """The `tokenizers.Encoding` of each text, or of each list of words, with offsets.

        Raises:
          UserError: for a tokenizer that has none.
        """
        if not getattr(self.tokenizer, "is_fast", False):
            raise UserError(
                f"{type(self.tokenizer).__name__} gives no character offsets: this pipeline needs tokenizer.json"
            )
        options = {"truncation": True, "max_length": self.max_length, "is_split_into_words": words}
        return self.tokenizer(list(texts), **options).encodings

    def _encoded(self, texts: Sequence[Text]) -> tuple[list[list[int]], list[list[int]]]:
        encodings = self.tokenizer.backend_tokenizer.encode_batch_fast(list(texts))
        return [x.ids for x in encodings], [x.type_ids for x in encodings]

    def _plain(self, texts: Sequence[Text]) -> tuple[list[list[int]], list[list[int]]]:
        found = [
            self.tokenizer(
                *([text] if isinstance(text, str) else text),
                truncation="longest_first",
                max_length=self.max_length,
                return_token_type_ids=True,
                return_attention_mask=False,
            )
            for text in texts
        ]
        return [x["input_ids"] for x in found], [x["token_type_ids"] for x in found]


def examples_of(ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None, **columns: np.ndarray) -> Examples:
    """Examples of the token ids and token types of each sequence, with per-example columns; without types all are 0."""
    offsets = offsets_of(np.fromiter(map(len, ids), np.int64, len(ids)))
    flat = np.fromiter((x for row in ids for x in row), np.int32, int(offsets[-1]))
    kinds = np.zeros(len(flat), np.int8)
    if types is not None:
        kinds = np.fromiter((x for row in types for x in row), np.int8, len(flat))
    return Examples({"input_ids": flat, "token_type_ids": kinds}, offsets, columns)
