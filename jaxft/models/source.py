"""From what a user writes for a model to a local directory: a directory, package:NAME/SUBDIR, or a hub id."""

import importlib.util
import os
import re
from pathlib import Path

from jaxft.errors import UserError, one_line
from jaxft.urls import refuse_url

PACKAGE = "package:"
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "flax_model.msgpack")
# What belongs to a tokenizer: these travel with the model unchanged.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
)
# Any of these makes a tokenizer; without one, transformers would make a tokenizer that knows no words.
VOCABULARY_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def resolve(path: str, revision: str | None = None) -> Path:
    """The local directory of a model.

    Args:
      path: a directory, `package:NAME/SUBDIR` for files that an installed Python package carries, or a hub id.
      revision: branch, tag or commit of a hub id.

    Raises:
      UserError: when it cannot be found, saying where was looked.
    """
    refuse_url("model", path)
    if path.startswith(PACKAGE):
        return _in_package(path)
    local = Path(path).expanduser()
    if local.is_dir():
        return local
    if local.exists():
        raise UserError(f"{path}: is a file; give the directory that holds config.json")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) or path.startswith(".") or path.count("..") or os.path.isabs(path):
        raise UserError(f"{path}: no such directory")
    return _from_hub(path, revision)


def tokenizer_files(directory: Path) -> list[Path]:
    """The tokenizer's files in a directory."""
    return [directory / name for name in TOKENIZER_FILES if (directory / name).is_file()]


def _in_package(path: str) -> Path:
    name, _, inside = path.removeprefix(PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not (spec.submodule_search_locations or spec.origin):
        raise UserError(f"{path}: the Python package {name} is not installed (pip install {name.replace('_', '-')})")
    root = Path(next(iter(spec.submodule_search_locations or [os.path.dirname(spec.origin or "")])))
    if not (root / inside).is_dir():
        folders = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("_"))
        raise UserError(f"{path}: the package {name} has no folder {inside} (it has {', '.join(folders) or 'none'})")
    return root / inside


def _from_hub(path: str, revision: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    patterns = ["config.json", "adapter_config.json", *WEIGHT_FILES, *TOKENIZER_FILES]
    try:
        return Path(huggingface_hub.snapshot_download(path, revision=revision, allow_patterns=patterns))
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{path}: neither a directory nor a model on the hub") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{path}: the hub has no revision {revision}") from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: no such directory, and the hub could not be asked ({one_line(error)[:160]})") from error
