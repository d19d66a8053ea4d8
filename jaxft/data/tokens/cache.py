"""Tokenised text on disk: named arrays under a digest of what they were made from, memory-mapped when found again."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.core import checksums, distributed
from jaxft.core.cache_dir import cache_dir
from jaxft.core.model_source import tokenizer_files

Arrays = Mapping[str, np.ndarray]
BATCH = 8192  # rows hashed at once


def cached(
    make: Callable[[], Arrays], *, rows: Any, directory: Path, tokenizer: Any, settings: list[Any], use: bool
) -> Arrays:
    """`make()`, or what it gave before for the same rows, settings and tokenizer, by content, and the same code.

    Args:
      make: named arrays; the names are the files' names.
      rows: the `datasets.Dataset` that they are made from.
      directory, tokenizer: the tokenizer and where it came from; its files' content counts.
      settings: everything else that decides the arrays, as JSON: columns, lengths, a name.
      use: False only makes.
    """
    if not use:
        return make()
    digest = hashlib.blake2b(json.dumps([*settings, content(rows), _code()]).encode(), digest_size=16)
    digest.update(type(tokenizer).__name__.encode())
    for path in tokenizer_files(directory):
        digest.update(path.read_bytes())
    folder = cache_dir() / "tokens" / digest.hexdigest()
    return _read(folder) or _write(folder, make())


def content(rows: Any) -> str:
    """A digest of the values of a `datasets.Dataset`, and of their names and types.

    Its `_fingerprint` would not do: that of rows read from a file is one of the file's name and time.
    """
    import pyarrow as pa

    digest = hashlib.blake2b(str(rows.features).encode(), digest_size=16)
    digest.update(str(len(rows)).encode())
    table = rows.with_format("arrow")
    for start in range(0, len(rows), BATCH):
        for column in table[start : start + BATCH].columns:
            # Rows that were chosen lie in many short pieces: the same values are the same bytes once they are one.
            joined = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
            batch = pa.record_batch([joined], names=["x"])
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_batch(batch)
            digest.update(sink.getvalue())
    return digest.hexdigest()


@cache
def _code() -> str:
    """A digest of what reads and tokenises: another version may make something else of the same text."""
    digest = hashlib.blake2b(digest_size=16)
    package = Path(__file__).parents[2]
    for path in sorted([*package.glob("data/**/*.py"), *package.glob("tasks/**/*.py")]):
        digest.update(checksums.of_file(path).encode())
    for library in ("tokenizers", "transformers"):
        digest.update(version(library).encode())
    return digest.hexdigest()


def _read(folder: Path) -> Arrays | None:
    try:
        record = checksums.verify(folder)
        if record is None:
            if folder.exists():
                raise checksums.Damaged(f"{checksums.MANIFEST} is not there")
            return None
        return {Path(name).stem: np.load(folder / name, mmap_mode="r") for name in record["files"]}
    except (OSError, ValueError, checksums.Damaged) as error:
        if distributed.is_main_process():
            print(f"the cached tokens in {folder} are damaged ({error}) and are made again", file=sys.stderr)
        return None


def _write(folder: Path, arrays: Arrays) -> Arrays:
    """Best effort: a cache that cannot be written costs time, nothing else."""
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        checksums.record(temporary)
        if folder.exists():  # damaged: those who have it mapped keep what they have
            os.replace(folder, temporary / "damaged")
        os.replace(temporary, folder)
        shutil.rmtree(folder / "damaged", ignore_errors=True)
    except OSError:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return arrays
