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

    def windows(self, texts: Sequence[Any], stride: int | None = None, *, words: bool = False) -> list[list[Any]]:
        """The windows of each text, or with `words` of each list of words: `tokenizers.Encoding`s, with offsets.

        There is one, truncated, or with a stride several, each of which shares `stride` tokens with the next.

        Raises:
          UserError: for a tokenizer without offsets.
        """
        if not getattr(self.tokenizer, "is_fast", False):
            raise UserError(f"{type(self.tokenizer).__name__} gives no character offsets, which this task needs")
        options = {"truncation": True, "max_length": self.max_length, "is_split_into_words": words}
        if stride is None:
            return [[x] for x in self.tokenizer(list(texts), **options).encodings]
        found = self.tokenizer(list(texts), **options, stride=stride, return_overflowing_tokens=True)
        own: list[list[Any]] = [[] for _ in texts]
        for i, encoding in zip(found["overflow_to_sample_mapping"], found.encodings, strict=True):
            own[i].append(encoding)
        return own

    def question_windows(self, question: str, context: str, stride: int) -> list[Any]:
        """The windows of a context with its question: `tokenizers.Encoding`s that share `stride` tokens of the context.

        Raises:
          UserError: for a tokenizer without offsets, or a question that leaves no room for more than `stride` tokens.
        """
        if not getattr(self.tokenizer, "is_fast", False):
            raise UserError(f"{type(self.tokenizer).__name__} gives no character offsets, which this task needs")
        size = len(self.tokenizer(question, add_special_tokens=False)["input_ids"])
        room = self.max_length - size - self.tokenizer.num_special_tokens_to_add(pair=True)
        if room <= stride:
            raise UserError(
                f"the question {question!r:.60} has {size} tokens and leaves {room} of max_length {self.max_length} for its "
                f"context: must be more than doc_stride, {stride}"
            )
        options = {"truncation": "only_second", "max_length": self.max_length, "stride": stride}
        return self.tokenizer(question, context, **options, return_overflowing_tokens=True).encodings

    def types(self, encodings: Sequence[Any]) -> list[list[int]] | None:
        """The token types of encodings, if the model has any."""
        return [x.type_ids for x in encodings] if self._typed else None

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
