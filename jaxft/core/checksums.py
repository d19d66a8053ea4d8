"""Digests of files and arrays, and manifests that tell whether the files of a folder have changed."""

import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

MANIFEST = "checksums.json"
CHUNK = 2**24  # bytes that are digested at once


class Damaged(Exception):
    """A file differs from its manifest; the text names the file and says what is wrong with it."""


def of_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal (1 to 2 GB per second)."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_part(file: BinaryIO, size: int) -> "hashlib._Hash":
    """The SHA-256 object of the next bytes of an open file, `size` of them or all if there are fewer."""
    digest = hashlib.sha256()
    while size > 0 and (part := file.read(min(size, CHUNK))):
        digest.update(part)
        size -= len(part)
    return digest


def of_arrays(arrays: Iterable[tuple[str, Any]]) -> str:
    """SHA-256 of named arrays: names, dtypes, shapes and values, in the given order."""
    import numpy as np

    digest = hashlib.sha256()
    for name, x in arrays:
        array = np.ascontiguousarray(x)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8))  # pyright: ignore[reportArgumentType] (an array is a buffer)
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file beside `path` that replaces it, once its content is on the disk, if the block ends without an error."""
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Atomically write a JSON object together with its digest."""
    with replacing(path) as file:
        file.write(json.dumps({"sha256": of_json(content), "content": content}, indent=1).encode())


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a file that `write_sealed` wrote.

    Raises:
      Damaged: if its content has changed.
      OSError: if it is absent, or cannot be read.
    """
    try:
        sealed = json.loads(path.read_bytes())
        content, digest = sealed["content"], sealed["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Damaged(f"{path.name} is torn") from None
    if not isinstance(content, dict) or of_json(content) != digest:
        raise Damaged(f"{path.name} has other content than was written")
    return content


def of_json(content: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object, whatever its spacing and the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, *, exclude: Collection[str] = (), durable: bool = False, **more: Any) -> None:
    """Write the sizes and digests of all files of a folder into a manifest there, with further entries `more`.

    Files that may change are excluded, by their path in the folder. With `durable`, all are on the disk before the manifest
    is, so that a machine that goes down leaves files that fit it, or none.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in exclude and path.name not in (MANIFEST, f".{MANIFEST}.new"):
            files[name] = entry(path)
            if durable:
                _sync(path)
    if durable:
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                with suppress(OSError):  # not every file system can promise names
                    _sync(path)
    write_sealed(folder / MANIFEST, {"files": files, **more})


def entry(path: Path) -> list[Any]:
    """Size and digest of a file, as a manifest has them."""
    return [path.stat().st_size, of_file(path)]


def _sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(folder: Path, pattern: str = "*") -> dict[str, Any] | None:
    """Compare size and digest of every file that a folder's manifest names; return the manifest, or None if there is none.

    With a `pattern` only those files whose names match it are read.

    Raises:
      Damaged: naming the first file that is absent or whose size or content differs from the manifest.
      OSError: for a file that exists but cannot be read: this may be temporary, and is not damage.
    """
    try:
        manifest = read_sealed(folder / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    for name, size, digest in _entries(manifest):
        if not fnmatchcase(name, pattern):
            continue
        try:
            found = (folder / name).stat()
            if not stat.S_ISREG(found.st_mode):
                raise Damaged(f"{name} is not there")
            if (actual_size := found.st_size) != size:
                raise Damaged(f"{name} has {actual_size:,} bytes instead of {size:,}")
            if of_file(folder / name) != digest:
                raise Damaged(f"{name} has other content than was written")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise Damaged(f"{name} is not there") from None
    return manifest


def _entries(manifest: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """(name, size, digest) of every file in a manifest, which may come from anybody: it names only files of its folder."""
    try:
        entries = [(name, int(size), str(digest)) for name, (size, digest) in manifest["files"].items()]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Damaged(f"{MANIFEST} is torn") from None
    for name, *_ in entries:
        if name.startswith("/") or "\0" in name or ".." in name.split("/"):
            raise Damaged(f"{MANIFEST} names {name[:100]!r}, which is not in its folder")
    return entries
