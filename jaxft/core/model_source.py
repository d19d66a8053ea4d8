"""Finds the local directory of a model, given as a directory, a URL of one, `package:NAME/SUBDIR` or a hub id."""

import glob
import importlib.util
import json
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from jaxft.core import checksums, remote
from jaxft.core.errors import UserError, one_line
from jaxft.core.paths import check_url, path_inside

PACKAGE = "package:"
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "flax_model.msgpack")
# Files at a URL that are not copied: optimizers, other formats of weights, and whatever lies in folders. Glob patterns.
NOT_READ = ("*/*", ".*", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.ot", "*.onnx", "*.tflite")
# A tokenizer needs one of these; without any, transformers would make a tokenizer with an empty vocabulary. Glob patterns.
VOCABULARY_FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "prophetnet.tokenizer", "byte_maps.json"),
    "*.model",  # SentencePiece: spm, spiece, sentencepiece.bpe, tokenizer ...
)
# All files that transformers' tokenizers read. They are copied with the model, unchanged.
TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "tokenizer-*.json"),
    *("merges.txt", "bpe.codes", "dict.txt", "emoji.json", "entity_vocab.json", "normalizer.json"),
    *("source.spm", "target.spm", "target_vocab.json", "vocab-src.json", "vocab-tgt.json"),
    *("word_shape.json", "word_pronunciation.json"),
)


def resolve(path: str, revision: str | None = None) -> Path:
    """The local directory of a model: a directory, `package:NAME/SUBDIR` of an installed Python package, or a hub id.

    A directory at a URL is copied, without its folders and what jaxft does not read.

    A revision is a branch, tag or commit of a hub id.

    Raises:
      UserError: if the model is not found, naming where it was looked for; or if a file of a directory with checksums
        differs from them.
    """
    check_url("model", path)
    if path.startswith(PACKAGE):
        return _in_package(path)
    local = Path(remote.local(path, skip=NOT_READ)).expanduser()
    if os.path.isdir(local):  # Path.is_dir raises for a name that is too long
        _check_whole(local)
        return local
    if os.path.exists(local):
        raise UserError(f"{path}: is a file; give the directory that holds config.json")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) or path.startswith(".") or path.count("..") or os.path.isabs(path):
        raise UserError(f"{path}: no such directory")
    return _from_hub(path, revision)


def _check_whole(directory: Path) -> None:
    """Refuse a directory in which a file differs from the checksums there."""
    manifest = directory / checksums.MANIFEST
    if not manifest.is_file():
        return
    try:
        found = [path.stat() for path in sorted(directory.iterdir()) if path.is_file()]
        fault = _fault(directory.resolve(), tuple((x.st_ino, x.st_size, x.st_mtime_ns) for x in found))
    except OSError as error:
        raise UserError(f"{directory}: cannot be read: {error.strerror}") from error
    if fault:
        raise UserError(
            f"{directory / fault}: the model is damaged; write it again with jaxft export, or, if you have changed the file "
            f"yourself, delete {manifest}"
        )


@lru_cache(maxsize=100)
def _fault(directory: Path, state: tuple[tuple[int, int, int], ...]) -> str | None:
    """What differs from the checksums in a directory; asked again if `state`, the sizes and times of its files, changes."""
    try:
        checksums.verify(directory)
    except checksums.Damaged as error:
        return str(error)
    return None


def tokenizer_files(directory: Path) -> list[Path]:
    """The tokenizer's files in a directory: those with known names, and those that tokenizer_config.json names."""
    return _files(directory, [*TOKENIZER_FILES, *_configured_files(directory / "tokenizer_config.json")])


def vocabulary_files(directory: Path) -> list[Path]:
    """The vocabulary files in a directory; none if it has no tokenizer."""
    return _files(directory, VOCABULARY_FILES)


def _files(directory: Path, patterns: Iterable[str]) -> list[Path]:
    return list(dict.fromkeys(path for name in patterns for path in sorted(directory.glob(name)) if path.is_file()))


def _configured_files(config: Path) -> list[str]:
    """Names of files in the same directory that tokenizer_config.json gives under keys such as `vocab_file`."""
    try:
        values = json.loads(config.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return []
    named = [x for key, x in values.items() if key.endswith("_file")] if isinstance(values, dict) else []
    return [glob.escape(x) for x in named if isinstance(x, str) and x == Path(x).name and "\0" not in x and len(x) < 256]


def _in_package(path: str) -> Path:
    name, _, folder = path.removeprefix(PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(name) if re.fullmatch(r"[A-Za-z_]\w{0,199}", name) else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not (spec.submodule_search_locations or spec.origin):
        raise UserError(f"{path}: the Python package {name} is not installed (pip install {name.replace('_', '-')})")
    root = Path(next(iter(spec.submodule_search_locations or [os.path.dirname(spec.origin or "")])))
    directory = path_inside(root, folder)
    if directory is None:
        raise UserError(f"{path}: {folder} is outside of the package {name}")
    if not os.path.isdir(directory):
        folders = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("_"))
        raise UserError(f"{path}: the package {name} has no folder {folder} (it has {', '.join(folders) or 'none'})")
    return directory


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
    except PermissionError as error:
        raise UserError(
            f"{path}: the cache of the hub cannot be written ({one_line(error)[:160]}); set HF_HOME to a folder that can be"
        ) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: no such directory, and the hub could not be asked ({type(error).__name__}; --debug says more)"
        ) from error
