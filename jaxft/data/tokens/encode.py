"""Converts text to token ids, as flat arrays with offsets that are cached on disk and memory-mapped."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.core.progress import in_steps
from jaxft.core.ragged import offsets_of
from jaxft.data.reading.columns import CHUNK
from jaxft.data.reading.row_numbers import RowName, row_names
from jaxft.data.tokens.cache import Arrays, cached
from jaxft.data.tokens.tokenizer import has_token_types


@dataclass(frozen=True)
class Examples:
    """Encoded examples. An example is `group` sequences, which follow one another in the same row of a batch.

    Attributes:
      tokens: flat per-token columns, such as `input_ids` and `token_type_ids` [total].
      offsets: int64 [N * group + 1]; sequence i is `[offsets[i]:offsets[i + 1]]` of every token column.
      columns: per-example columns, such as `labels` [N].
      group: sequences per example (the choices of multiple choice).
    """

    tokens: Mapping[str, np.ndarray]
    offsets: np.ndarray
    columns: Mapping[str, np.ndarray]
    group: int = 1

    def __len__(self) -> int:
        return (len(self.offsets) - 1) // self.group

    @property
    def starts(self) -> np.ndarray:
        """The index of each example's first token, int64 [N]."""
        return self.offsets[: -1 : self.group]

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each example, int64 [N]."""
        return np.diff(self.offsets[:: self.group])

    def first(self, count: int) -> "Examples":
        """The first `count` examples, or all if there are fewer."""
        offsets = self.offsets[: min(count, len(self)) * self.group + 1]
        tokens = {name: x[: int(offsets[-1])] for name, x in self.tokens.items()}
        return replace(self, tokens=tokens, offsets=offsets, columns={name: x[:count] for name, x in self.columns.items()})

    def with_columns(self, **columns: np.ndarray) -> "Examples":
        """The same tokens with more per-example columns."""
        return replace(self, columns={**self.columns, **columns})

    def with_tokens(self, **tokens: np.ndarray) -> "Examples":
        """The same tokens with more per-token columns."""
        return replace(self, tokens={**self.tokens, **tokens})


def encode_texts(
    rows: Any, tokenizer: Any, directory: Path, config: DataConfig, origin: str, group: int = 1, where: RowName | None = None
) -> Examples:
    """Tokenises the text column, or the pair of text columns, of a `datasets.Dataset`.

    Args:
      tokenizer, directory: the tokenizer and its directory.
      config: its `max_length` limits a sequence, special tokens included; with `truncation` longer sequences are truncated
        (the longer text of a pair first), otherwise they are errors. `cache` says whether the result is cached on disk.
      origin: the file, for messages.
      group: rows per example.
      where: names examples in messages; by default by the row numbers of `row_names`.

    Raises:
      UserError: for a text that is too long if truncation is off, naming its row.
    """
    text, pair = config.text, config.text_pair

    def make() -> Arrays:
        encode = _encoder(tokenizer, config.max_length if config.truncation else None)
        name = where or row_names(rows, origin)

        def encode_chunk(start: int) -> Any:
            chunk = rows[start : start + CHUNK]
            return encode(chunk[text], chunk[pair] if pair else None)

        return _tokenise(encode_chunk, len(rows), config.max_length, origin, lambda row: name(row // group))

    settings = ["texts", text, pair, config.max_length, config.truncation]
    arrays = cached(make, rows=rows, directory=directory, tokenizer=tokenizer, settings=settings, use=config.cache)
    return Examples(token_ids(arrays), np.asarray(arrays["offsets"]), {}, group)


def token_ids(arrays: Arrays) -> Arrays:
    """The token columns that every tokenizer gives: `input_ids` int32 and `token_type_ids` int8, [total] each."""
    return {name: arrays[name] for name in ("input_ids", "token_type_ids")}


def _tokenise(encode_chunk: Callable[[int], Any], count: int, max_length: int, origin: str, where: RowName) -> Arrays:
    """The tokens of `count` rows, of which `encode_chunk` encodes CHUNK, in a thread one chunk ahead."""
    ids, types, sizes = [], [], []
    with ThreadPoolExecutor(1) as ahead:  # the tokenizer releases the GIL
        pending = ahead.submit(encode_chunk, 0)
        for start in in_steps(f"tokenising {origin}", count, CHUNK):
            rows_ids, rows_types = pending.result()
            if start + CHUNK < count:
                pending = ahead.submit(encode_chunk, start + CHUNK)
            sizes.append(np.fromiter(map(len, rows_ids), np.int64, len(rows_ids)))
            if sizes[-1].max() > max_length:
                i = int(np.argmax(sizes[-1] > max_length))
                raise UserError(
                    f"{where(start + i)} is {sizes[-1][i]} tokens long, more than data.max_length "
                    f"{max_length}; raise it or set data.truncation to true"
                )
            total = int(sizes[-1].sum())
            zeros = np.zeros(total, np.int8)
            ids.append(np.fromiter(chain.from_iterable(rows_ids), np.int32, total))
            types.append(zeros if rows_types is None else np.fromiter(chain.from_iterable(rows_types), np.int8, total))
    offsets = offsets_of(np.concatenate(sizes))
    return {"input_ids": np.concatenate(ids), "token_type_ids": np.concatenate(types), "offsets": offsets}


def _encoder(tokenizer: Any, max_length: int | None) -> Callable[[Sequence[str], Sequence[str] | None], Any]:
    """Returns a function (texts, second texts or None) -> (ids of every row, their token types or None if all are 0).

    transformers spends a third of the time on converting the result of a fast tokenizer. So the function calls the fast
    tokenizer directly, after transformers has configured it, if both give the same for the first row.
    """
    # Some tokenizers give the texts of a pair different types although their models have none (RoBERTa).
    typed = has_token_types(tokenizer)

    def plain(texts: Sequence[str], pairs: Sequence[str] | None) -> Any:
        encoded = tokenizer(
            texts,
            pairs,
            truncation="longest_first" if max_length is not None else False,
            max_length=max_length,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        return encoded["input_ids"], encoded["token_type_ids"] if typed else None

    def fast(texts: Sequence[str], pairs: Sequence[str] | None) -> Any:
        batch = texts if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = tokenizer.backend_tokenizer.encode_batch_fast(batch)
        return [x.ids for x in encodings], [x.type_ids for x in encodings] if typed else None

    def either(texts: Sequence[str], pairs: Sequence[str] | None) -> Any:
        first = (texts[:1], pairs[:1] if pairs else None)
        return (fast if plain(*first) == fast(*first) else plain)(texts, pairs)

    return either if getattr(tokenizer, "is_fast", False) else plain
