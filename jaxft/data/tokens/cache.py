"""The cache of tokenised text on disk: memory-mapped named arrays, keyed by a digest of everything that determines them."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.core import checksums, distributed
from jaxft.core.model_source import tokenizer_files
from jaxft.core.paths import cache_dir
from jaxft.core.written_once import written_once

Arrays = Mapping[str, np.ndarray]
BATCH = 512  # rows hashed at once, which are in memory twice


def cached(
    make: Callable[[], Arrays], *, rows: Any, directory: Path, tokenizer: Any, settings: list[Any], use: bool
) -> Arrays:
    """Returns `make()`, or its cached result for the same content of rows and tokenizer, the same settings and code.

    Cached arrays are memory-mapped. Of several processes that share the cache folder, one calls `make`, and the others wait
    for its result: each row is tokenised once, and written once.

    Args:
      make: returns named arrays; the names become file names.
      rows: the `datasets.Dataset` that the arrays are made from.
      directory, tokenizer: the tokenizer and its directory; the content of its files is part of the key.
      settings: everything else that determines the arrays, as JSON: columns, lengths, a name.
      use: whether to use the cache.
    """
    if not use:
        return make()
    digest = hashlib.blake2b(json.dumps([*settings, content_digest(rows), _code_digest()]).encode(), digest_size=16)
    digest.update(type(tokenizer).__name__.encode())
    for path in tokenizer_files(directory):
        digest.update(path.read_bytes())
    folder = cache_dir() / "tokens" / digest.hexdigest()
    return written_once(folder, lambda: _read(folder), lambda: _write(folder, make()))


def content_digest(rows: Any) -> str:
    """A digest of the values, column names and types of a `datasets.Dataset`, whatever the name and time of its file."""
    import pyarrow as pa

    digest = hashlib.blake2b(f"{rows.features}{len(rows)}".encode(), digest_size=16)
    table = rows.with_format("arrow")
    for start in range(0, len(rows), BATCH):
        for column in table[start : start + BATCH].columns:
            # Selected rows are in many short chunks; equal values have equal bytes only in one chunk.
            joined = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
            batch = pa.record_batch([joined], names=["x"])
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_batch(batch)
            digest.update(sink.getvalue())
    return digest.hexdigest()


@cache
def _code_digest() -> str:
    """A digest of the code that reads and tokenises, since another version may give other tokens for the same text."""
    digest = hashlib.blake2b(digest_size=16)
    package = Path(__file__).parents[2]
    for path in sorted([*package.glob("data/**/*.py"), *package.glob("tasks/**/*.py")]):
        digest.update(checksums.of_file(path).encode())
    for library in ("tokenizers", "transformers"):
        digest.update(version(library).encode())
    return digest.hexdigest()


def _read(folder: Path) -> Arrays | None:
    try:
        manifest = checksums.verify(folder)
        if manifest is None:
            if folder.exists():
                raise checksums.Damaged(f"{checksums.MANIFEST} is not there")
            return None
        return _mapped(folder, manifest)
    except (OSError, ValueError, checksums.Damaged) as error:
        if distributed.is_main_process():
            print(f"the cached tokens in {folder} are damaged ({error}) and are made again", file=sys.stderr)
        return None


def _mapped(folder: Path, manifest: Mapping[str, Any]) -> Arrays:
    return {Path(name).stem: np.load(folder / name, mmap_mode="r") for name in manifest["files"]}


def _write(folder: Path, arrays: Arrays) -> tuple[Arrays, bool]:
    """Writes the arrays if possible: without a writable cache they are only made again.

    Returns:
      (the arrays, mapped from their files if these could be written; whether they are in the folder).
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as temporary:
            new = Path(temporary, "new")
            new.mkdir(0o700)
            for name, array in arrays.items():
                np.save(new / f"{name}.npy", array)
            checksums.write_manifest(new)
            if folder.exists():  # damaged; processes that have mapped its files can go on reading them
                os.replace(folder, Path(temporary, "damaged"))
            os.replace(new, folder)
        return _mapped(folder, {"files": [f"{name}.npy" for name in arrays]}), True
    except OSError as error:
        another = folder.exists()  # process has been faster
        if distributed.is_main_process() and not another:
            print(f"tokens are not cached in {folder.parent}: {error.strerror or error}", file=sys.stderr)
        return arrays, another
