"""Arrays on disk that are written from begin to end, survive a kill, and are never read if they have changed.

A folder holds a file per array, `about.json`, which says what determines the values, and `progress.jsonl`, a line for each
part that is safely on the disk, with its digests. What lies behind the last line is written again.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from jaxft.core import checksums
from jaxft.core.checksums import Damaged

ABOUT, PROGRESS = "about.json", "progress.jsonl"
SECONDS = 5.0  # between two lines of progress


@dataclass(frozen=True)
class Array:
    """Shape and dtype of an array that is written along its first axis."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Its bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
      about: what it says determines the values; None if the folder is absent or empty.
      done: how many examples are complete.
      sizes: the bytes of each array up to there.
    """

    about: Mapping[str, Any] | None = None
    done: int = 0
    sizes: Mapping[str, int] | None = None


def read_about(folder: Path) -> Mapping[str, Any] | None:
    """What determines the values in a folder; None if it says nothing.

    Raises:
      Damaged: if the file has changed.
      OSError: if it exists but cannot be read.
    """
    try:
        return checksums.read_sealed(folder / ABOUT)
    except (FileNotFoundError, NotADirectoryError):
        return None


def look(folder: Path, arrays: Arrays) -> Found:
    """Read what a folder holds of some arrays, and compare it with its digests.

    Raises:
      Damaged: naming the file that differs from what was written.
      OSError: if a file exists but cannot be read.
    """
    if (about := read_about(folder)) is None:
        return Found()
    done, sizes = 0, dict.fromkeys(arrays, 0)
    with ExitStack() as files:
        opened = {}
        for line in _lines(folder / PROGRESS):
            if line["sha256"].keys() != arrays.keys():
                raise Damaged(f"{PROGRESS} names other files")
            for name, digest in line["sha256"].items():
                if name not in opened:
                    opened[name] = _open(folder / file_name(name), files)
                begin, end = sizes[name], line["bytes"][name]
                if checksums.of_part(opened[name], end - begin).hexdigest() != digest:
                    where = f"between bytes {begin:,} and {end:,}"
                    raise Damaged(f"{file_name(name)} has other content than was written, {where}")
                sizes[name] = end
            done = line["done"]
    return Found(about, done, sizes)


def _open(path: Path, files: ExitStack) -> BinaryIO:
    try:
        return files.enter_context(open(path, "rb"))
    except FileNotFoundError:
        raise Damaged(f"{path.name} is not there") from None


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of progress; a last line that is torn is left out, because what it tells of is only written again."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            sealed = json.loads(line)
            content, digest = sealed["content"], sealed["sha256"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Damaged(f"{PROGRESS}: line {number} is torn") from None
        if not isinstance(content, dict) or checksums.of_json(content) != digest:
            raise Damaged(f"{PROGRESS}: line {number} has other content than was written")
        found.append(content)
    return found


def file_name(array: str) -> str:
    """The file of an array."""
    return f"{array}.bin"


def own_files(arrays: Arrays) -> set[str]:
    """The names of the files of a folder with these arrays."""
    return {ABOUT, PROGRESS, *map(file_name, arrays)}


def clear(folder: Path, arrays: Arrays) -> None:
    """Remove what a folder holds. Who has mapped its files goes on reading them."""
    for name in sorted(own_files(arrays), key=lambda name: name != PROGRESS):
        (folder / name).unlink(missing_ok=True)


def looks_complete(folder: Path, count: int) -> bool:
    """Whether the last line of progress tells that `count` examples are complete, without reading their values."""
    try:
        lines = _lines(folder / PROGRESS)
    except (OSError, Damaged):
        return False
    return bool(lines) and lines[-1]["done"] == count


def mapped(folder: Path, arrays: Arrays) -> dict[str, np.ndarray]:
    """The complete arrays of a folder, memory-mapped."""
    return {name: np.memmap(folder / file_name(name), x.dtype, "r", shape=x.shape) for name, x in arrays.items()}


class Writer(Protocol):
    """Takes values from the first example to the last."""

    done: int

    def append(self, values: Mapping[str, np.ndarray], done: int) -> None:
        """Write the next values of all arrays, with which `done` examples are complete."""
        ...

    def finish(self) -> dict[str, np.ndarray]:
        """Write the rest to the disk, and return all arrays, memory-mapped."""
        ...

    def close(self) -> None:
        """Close the files, complete or not."""
        ...


class FolderWriter:
    """Writes arrays into a folder, behind what it holds already. Only who has its lock may make one.

    Args of the constructor:
      folder: exists.
      arrays: to write.
      about: what determines them, JSON.
      found: what `look` has found there, for the same `about`.
    """

    def __init__(self, folder: Path, arrays: Arrays, about: Mapping[str, Any], found: Found) -> None:
        self._folder, self._arrays, self.done = folder, arrays, found.done
        self._sizes = dict(found.sizes or dict.fromkeys(arrays, 0))
        self._digests = {name: hashlib.sha256() for name in arrays}
        self._last, self._written = time.monotonic(), found.done
        if found.about is None:
            clear(folder, arrays)
            checksums.write_sealed(folder / ABOUT, about)
        with ExitStack() as files:
            paths = {name: folder / file_name(name) for name in arrays}
            self._files = {name: files.enter_context(_continued(path, self._sizes[name])) for name, path in paths.items()}
            lines = folder / PROGRESS
            whole = lines.read_bytes().rfind(b"\n") + 1 if lines.exists() else 0
            self._progress = files.enter_context(_continued(lines, whole))
            self._close = files.pop_all().close

    def append(self, values: Mapping[str, np.ndarray], done: int) -> None:
        """See `Writer`."""
        for name, x in self._arrays.items():
            content = np.ascontiguousarray(values[name], x.dtype).reshape(-1).view(np.uint8).data
            self._files[name].write(content)
            self._digests[name].update(content)
            self._sizes[name] += len(content)
        self.done = done
        if time.monotonic() - self._last >= SECONDS:
            self._commit()

    def finish(self) -> dict[str, np.ndarray]:
        """See `Writer`."""
        self._commit()
        return mapped(self._folder, self._arrays)

    def close(self) -> None:
        """See `Writer`."""
        with suppress(OSError):  # on a full disk closing fails as writing did, which has been said
            self._close()

    def _commit(self) -> None:
        if self.done == self._written:
            return
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        digests = {name: digest.hexdigest() for name, digest in self._digests.items()}
        content = {"done": self.done, "bytes": self._sizes, "sha256": digests}
        line = {"sha256": checksums.of_json(content), "content": content}
        self._progress.write(json.dumps(line).encode() + b"\n")
        self._progress.flush()
        os.fsync(self._progress.fileno())
        self._digests = {name: hashlib.sha256() for name in self._arrays}
        self._last, self._written = time.monotonic(), self.done


def _continued(path: Path, size: int) -> BinaryIO:
    """A file that is written behind its first `size` bytes."""
    file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115 (closed by the writer)
    file.truncate(size)
    file.seek(size)
    return file


class TemporaryWriter:
    """Writes arrays into unnamed files, which are gone when the process ends."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays, self.done = arrays, 0
        with ExitStack() as files:
            self._files = {name: files.enter_context(tempfile.TemporaryFile()) for name in arrays}
            self._close = files.pop_all().close

    def append(self, values: Mapping[str, np.ndarray], done: int) -> None:
        """See `Writer`."""
        for name, x in self._arrays.items():
            self._files[name].write(np.ascontiguousarray(values[name], x.dtype).reshape(-1).view(np.uint8).data)
        self.done = done

    def finish(self) -> dict[str, np.ndarray]:
        """See `Writer`."""
        for file in self._files.values():
            file.flush()
        return {name: np.memmap(self._files[name], x.dtype, "r", shape=x.shape) for name, x in self._arrays.items()}

    def close(self) -> None:
        """See `Writer`."""
        with suppress(OSError):  # on a full disk closing fails as writing did, which has been said
            self._close()
