"""Text to token ids, kept as flat arrays (one concatenation and its offsets) and cached on disk, memory-mapped."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxft import runtime
from jaxft.errors import UserError, one_line
from jaxft.models.source import VOCABULARY_FILES, tokenizer_files

CHUNK = 2048  # rows a call of the tokenizer


@dataclass(frozen=True)
class Examples:
    """Encoded examples.

    Attributes:
      tokens: per-token columns, flat, such as `input_ids` and `token_type_ids` [total].
      offsets: int64 [N + 1]; example i is `[offsets[i]:offsets[i + 1]]` of every token column.
      columns: per-example columns, such as `labels` [N].
    """

    tokens: Mapping[str, np.ndarray]
    offsets: np.ndarray
    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, int64 [N]."""
        return np.diff(self.offsets)

    def with_columns(self, **columns: np.ndarray) -> "Examples":
        """The same tokens with more per-example columns."""
        return Examples(self.tokens, self.offsets, {**self.columns, **columns})

    def select(self, index: np.ndarray) -> "Examples":
        """Some of the examples, in the order of `index`."""
        lengths = self.lengths[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        source = np.repeat(self.offsets[index] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Examples(
            {name: x[source] for name, x in self.tokens.items()},
            offsets,
            {name: x[index] for name, x in self.columns.items()},
        )


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a model directory; its code never comes from that directory.

    Raises:
      UserError: when there is none or it cannot be read.
    """
    if not any(path.name in VOCABULARY_FILES for path in tokenizer_files(directory)):
        raise UserError(f"{directory}: no usable tokenizer: none of {', '.join(VOCABULARY_FILES)}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import transformers

    transformers.logging.set_verbosity_error()
    try:
        return transformers.AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False)
    except Exception as error:  # tokenizers raises plain Exceptions for a torn tokenizer.json
        raise UserError(f"{directory}: no usable tokenizer: {one_line(error)[:200]}") from error


def encode_texts(
    rows: Any,
    tokenizer: Any,
    directory: Path,
    *,
    text: str,
    text_pair: str | None,
    max_length: int,
    truncation: bool,
    use_cache: bool,
    origin: str,
) -> Examples:
    """Tokenise a column, or a pair of columns, of a `datasets.Dataset`.

    Args:
      rows: the data set.
      tokenizer, directory: the tokenizer and where it came from.
      text, text_pair: column names.
      max_length: longest sequence, special tokens included.
      truncation: cut longer sequences (the longer text of a pair first); otherwise they are errors.
      use_cache: look in, and add to, the user's cache folder.
      origin: the file, for messages.

    Raises:
      UserError: for a text that is too long while truncation is off, naming its row.
    """
    settings = [text, text_pair, max_length, truncation, rows._fingerprint, len(rows)]
    folder = _cache_folder(directory, tokenizer, settings) if use_cache else None
    if folder and (found := _read_cache(folder)):
        return found
    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    lengths = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        encoded = tokenizer(
            chunk[text],
            chunk[text_pair] if text_pair else None,
            truncation="longest_first" if truncation else False,
            max_length=max_length if truncation else None,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        for i, row in enumerate(encoded["input_ids"]):
            lengths[start + i] = len(row)
            if len(row) > max_length:
                raise UserError(
                    f"{origin}: row {start + i + 1} is {len(row)} tokens long, more than data.max_length {max_length}; "
                    "raise it or set data.truncation to true"
                )
        ids += [np.asarray(row, np.int32) for row in encoded["input_ids"]]
        # Some tokenizers number the texts of a pair although their models are not told (RoBERTa).
        typed = np.int8("token_type_ids" in tokenizer.model_input_names)
        types += [np.asarray(row, np.int8) * typed for row in encoded["token_type_ids"]]
    examples = Examples(
        {"input_ids": np.concatenate(ids), "token_type_ids": np.concatenate(types)},
        np.concatenate([[0], np.cumsum(lengths)]),
        {},
    )
    if folder:
        _write_cache(folder, examples)
    return examples


def _cache_folder(directory: Path, tokenizer: Any, settings: list[Any]) -> Path:
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    digest.update(type(tokenizer).__name__.encode())
    for path in tokenizer_files(directory):
        digest.update(path.read_bytes())
    return runtime.cache_root() / "tokens" / digest.hexdigest()


def _read_cache(folder: Path) -> Examples | None:
    try:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("input_ids", "token_type_ids")}
        return Examples(arrays, np.load(folder / "offsets.npy"), {})
    except (OSError, ValueError):
        return None


def _write_cache(folder: Path, examples: Examples) -> None:
    """Best effort: a cache that cannot be written costs time, nothing else."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        for name, array in {**examples.tokens, "offsets": examples.offsets}.items():
            np.save(temporary / f"{name}.npy", array)
        os.replace(temporary, folder)
    except OSError:
        return


def per_row(rows: Any, column: str, function: Callable[[Any], Any]) -> list[Any]:
    """`function` over a column, read in chunks."""
    return [function(x) for start in range(0, len(rows), CHUNK) for x in rows[start : start + CHUNK][column]]
