"""Files and arrays known by their content: digests, and records beside files that tell whether they are still the same."""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "checksums.json"
BLOCK = 2**20  # bytes read at once


class Damaged(Exception):
    """A file is not what its record says; the text names the file and says what is wrong with it."""


def of_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal (1 to 2 GB a second)."""
    digest = hashlib.sha256()
    block = memoryview(bytearray(BLOCK))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(block):
            digest.update(block[:size])
    return digest.hexdigest()


def of_arrays(arrays: Iterable[tuple[str, Any]]) -> str:
    """SHA-256 of named arrays: names, types, shapes and values, in the order given."""
    import numpy as np

    digest = hashlib.sha256()
    for name, x in arrays:
        array = np.ascontiguousarray(x)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8))  # pyright: ignore[reportArgumentType] (it is a buffer)
    return digest.hexdigest()


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object that carries its own digest; it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({"sha256": of_json(content), "content": content}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote.

    Raises:
      Damaged: when a byte of it has changed.
      OSError: when it is absent, or cannot be read.
    """
    try:
        found = json.loads(path.read_bytes())
        content, seal = found["content"], found["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Damaged(f"{path.name} is torn") from None
    if not isinstance(content, dict) or of_json(content) != seal:
        raise Damaged(f"{path.name} has other content than was written")
    return content


def of_json(content: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object, however it is written."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def record(folder: Path, *, leave_out: Collection[str] = (), **more: Any) -> None:
    """Write the sizes and digests of all files of a folder into it.

    Args:
      folder: whose files are complete.
      leave_out: files, by their path in the folder, that may change.
      more: what else the record says.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in leave_out and path.name not in (MANIFEST, f".{MANIFEST}.new"):
            files[name] = [path.stat().st_size, of_file(path)]
    write_sealed(folder / MANIFEST, {"files": files, **more})


def verify(folder: Path) -> dict[str, Any] | None:
    """Read every file that a folder's record names.

    Returns:
      The record; None where there is none.

    Raises:
      Damaged: naming the first file that is absent, shorter, longer or other than recorded.
      OSError: for files that are there and cannot be read: that may pass, and is no damage.
    """
    try:
        found = read_sealed(folder / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    for name, (size, digest) in found["files"].items():
        try:
            there = (folder / name).stat().st_size
            if there != size:
                raise Damaged(f"{name} has {there:,} bytes instead of {size:,}")
            if of_file(folder / name) != digest:
                raise Damaged(f"{name} has other content than was written")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise Damaged(f"{name} is not there") from None
    return found
