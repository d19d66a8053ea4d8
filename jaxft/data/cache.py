"""Tokenised text on disk: named arrays under a digest of what they were made from, memory-mapped when found again."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxft import runtime
from jaxft.models.source import tokenizer_files

Arrays = Mapping[str, np.ndarray]


def cached(make: Callable[[], Arrays], *, directory: Path, tokenizer: Any, settings: list[Any], use: bool) -> Arrays:
    """`make()`, or what it gave before for the same settings and the same tokenizer.

    Args:
      make: named arrays; the names are the files' names.
      directory, tokenizer: the tokenizer and where it came from; its files' content counts.
      settings: everything else that decides the arrays, as JSON: the fingerprint of the rows, columns, lengths, a name.
      use: False only makes.
    """
    if not use:
        return make()
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    digest.update(type(tokenizer).__name__.encode())
    for path in tokenizer_files(directory):
        digest.update(path.read_bytes())
    folder = runtime.cache_root() / "tokens" / digest.hexdigest()
    return _read(folder) or _write(folder, make())


def _read(folder: Path) -> Arrays | None:
    try:
        return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    except (OSError, ValueError):
        return None


def _write(folder: Path, arrays: Arrays) -> Arrays:
    """Best effort: a cache that cannot be written costs time, nothing else."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        os.replace(temporary, folder)
    except OSError:
        pass
    return arrays
