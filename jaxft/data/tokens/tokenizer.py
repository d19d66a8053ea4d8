"""The tokenizer of a model directory, read by transformers."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxft.core.errors import UserError, one_line
from jaxft.core.model_source import VOCABULARY_FILES, vocabulary_files

UNKNOWN = "a \u2603 \U0010fffd"  # hardly any vocabulary has the last character


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a model directory; its code never comes from that directory.

    Raises:
      UserError: when there is none, it cannot be read, or a package for it is missing.
    """
    found = [path.name for path in vocabulary_files(directory)]
    if not found:
        raise UserError(f"{directory}: no usable tokenizer: none of {', '.join(VOCABULARY_FILES)}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import transformers

    transformers.logging.set_verbosity_error()
    _check_packages(directory, found)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False)
        tokenizer(UNKNOWN)  # of a vocabulary without [UNK] the first unknown character would be told of, at some row
        return tokenizer
    except Exception as error:  # tokenizers raises plain Exceptions for a torn tokenizer.json
        raise UserError(f"{directory}: no usable tokenizer: {one_line(error)[:200]}") from error


def _check_packages(directory: Path, found: Sequence[str]) -> None:
    """What a SentencePiece model without tokenizer.json takes; where it lacks, transformers names another package."""
    from transformers import utils

    there = {"sentencepiece": utils.is_sentencepiece_available(), "protobuf": utils.is_protobuf_available()}
    absent = " ".join(name for name, is_there in there.items() if not is_there)
    if absent and all(name.endswith(".model") for name in found):
        need = f"{found[0]} without a tokenizer.json takes the package {absent.replace(' ', ' and ')}"
        raise UserError(f"{directory}: no usable tokenizer: {need} (pip install {absent})")


def has_token_types(tokenizer: Any) -> bool:
    """Whether the model tells two texts apart by token types; otherwise all token types are 0."""
    return "token_type_ids" in tokenizer.model_input_names
