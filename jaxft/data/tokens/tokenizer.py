"""Loads the tokenizer of a model directory with transformers."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxft.core.errors import UserError, one_line
from jaxft.core.model_source import VOCABULARY_FILES, vocabulary_files

# Tokenizers that AutoTokenizer takes for a model type whenever the directory names no other.
CLASSES = {"bert": "BertTokenizer", "distilbert": "DistilBertTokenizer", "electra": "ElectraTokenizer"}
CLASSES |= {"roberta": "RobertaTokenizer"}
UNKNOWN = "a \u2603 \U0010fffd"  # hardly any vocabulary has the last character
PROBE = "Na\u00efve Stra\u00dfe \uff21 \u4e2d\u6587 don't\tE-mail 3,000.  x\u0301"  # what tokenizers treat differently


def load_tokenizer(directory: Path) -> Any:
    """Loads the tokenizer of a model directory, without running code from that directory.

    Raises a UserError if there is none, it cannot be read, or a package for it is missing.
    """
    names = [path.name for path in vocabulary_files(directory)]
    if not names:
        raise UserError(f"{directory}: no usable tokenizer: none of {', '.join(VOCABULARY_FILES)}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import transformers

    transformers.logging.set_verbosity_error()
    _check_packages(directory, names)
    try:
        tokenizer = _class(directory).from_pretrained(str(directory), trust_remote_code=False)
        # Without [UNK] in the vocabulary this raises here, and not at the first row with an unknown character.
        tokenizer(UNKNOWN)
        return tokenizer
    except Exception as error:  # tokenizers raises plain Exceptions for a damaged tokenizer.json
        raise UserError(f"{directory}: no usable tokenizer: {one_line(error)[:200]}") from error


def split_alike(tokenizer: Any, other: Any) -> bool:
    """Whether two tokenizers treat capitals, accents, spaces and punctuation alike, whatever their vocabularies are."""
    return _pieces(tokenizer) == _pieces(other)


def _pieces(tokenizer: Any) -> list[str]:
    """A text as the tokenizer's vocabulary would see it; empty for tokenizers that do not tell."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return []
    text = backend.normalizer.normalize_str(PROBE) if backend.normalizer else PROBE
    return [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)] if backend.pre_tokenizer else [text]


def _class(directory: Path) -> Any:
    """The class of the directory's tokenizer, or AutoTokenizer, which finds it, but imports torch where it is installed."""
    import transformers

    try:
        found = [json.loads((directory / name).read_bytes()) for name in ("config.json", "tokenizer_config.json")]
        known = CLASSES.get(found[0]["model_type"]), found[1]["tokenizer_class"].removesuffix("Fast")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return transformers.AutoTokenizer
    return getattr(transformers, known[1]) if known[0] == known[1] else transformers.AutoTokenizer


def _check_packages(directory: Path, names: Sequence[str]) -> None:
    """Check for the packages that a SentencePiece model without tokenizer.json needs; transformers names wrong ones."""
    from transformers import utils

    available = {"sentencepiece": utils.is_sentencepiece_available(), "protobuf": utils.is_protobuf_available()}
    absent = " ".join(name for name, is_available in available.items() if not is_available)
    if absent and all(name.endswith(".model") for name in names):
        need = f"{names[0]} without a tokenizer.json takes the package {absent.replace(' ', ' and ')}"
        raise UserError(f"{directory}: no usable tokenizer: {need} (pip install {absent})")


def has_token_types(tokenizer: Any) -> bool:
    """Whether the model tells two texts apart by token types; otherwise all token types are 0."""
    return "token_type_ids" in tokenizer.model_input_names
