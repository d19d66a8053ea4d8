"""Finds the files that an option of the config names (names, patterns, lists), and opens them, decompressed."""

import glob
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from jaxft.config import DataConfig
from jaxft.core import remote
from jaxft.core.errors import UserError, one_line
from jaxft.core.paths import is_url, plain
from jaxft.core.utf8 import check_utf8

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # suffix -> pyarrow's name of the codec


def origin(config: DataConfig, split: str) -> str:
    """The name of a split's data in messages: its files, or the data set and split on the hub."""
    text = ", ".join(names(getattr(config, split)))
    return f"{config.dataset}:{text}" if config.dataset else text


def files_of(config: DataConfig, split: str) -> list[Path]:
    """The files that `data.train`, `data.validation` or `data.test` names, in order; one may be a directory.

    A name with *, ? or [ is a pattern unless a file has exactly that name. Matching files are sorted, without hidden ones.

    Raises:
      UserError: if a file is absent, empty or not readable, or nothing matches.
    """
    given = names(getattr(config, split))
    if not given:
        raise UserError(f"data.{split} is an empty list: name one or more files")
    return [file for name in given for file in _matching(name, f"data.{split}")]


def are_files(where: str | Sequence[str] | None) -> bool:
    """Whether an option names existing files, by name or pattern, rather than a split of a hub data set."""
    return any(
        is_url(name) or os.path.isfile(Path(name).expanduser()) or (glob.has_magic(name) and glob.glob(name))
        for name in names(where)
    )


def names(where: str | Sequence[str] | None) -> Sequence[str]:
    """The names of files, or patterns, that an option holds."""
    return [where] if isinstance(where, str) else where or []


def _matching(name: str, field: str) -> list[Path]:
    name = plain(name)
    found = remote.matching(name)
    if found == [name]:
        path = Path(remote.local(name)).expanduser()
        return [path if os.path.isdir(path) else existing_file(str(path) if is_url(name) else name, field)]
    matching = [file for file in found if is_url(file) or not Path(file).is_dir()]
    if not matching:
        raise UserError(f"{name}: no such file, and no file matches this pattern ({field})")
    return [existing_file(file, field) for file in matching]


def existing_file(path: str, field: str) -> Path:
    """The file that `field` of the config names. Raises a UserError if it is absent, a directory, empty or not readable."""
    file = Path(remote.local(path)).expanduser()
    if not os.path.exists(file):  # unlike Path.exists, also for a name that is too long
        raise UserError(f"{path[:200]}: no such file ({field})")
    if file.is_dir():
        raise UserError(
            f"{path}: is a directory without a folder of .txt files for each label; {field} takes a file or such a "
            "directory (use data.dataset for a saved Arrow directory)"
        )
    if file.stat().st_size == 0 and file.is_file():
        raise UserError(f"{path}: the file is empty ({field})")
    if not os.access(file, os.R_OK):
        raise UserError(f"{path}: permission denied ({field})")
    return file


def file_format(file: str | os.PathLike[str]) -> str:
    """The suffix that names a file's format, such as `.csv`, also for `rows.csv.gz`."""
    path = Path(file)
    return Path(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSED else path.suffix.lower()


def open_bytes(file: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file for reading, decompressed. Raises a UserError if the installed pyarrow cannot decompress it."""
    import pyarrow as pa

    codec = COMPRESSED.get(Path(file).suffix.lower())
    if codec is None:
        return open(file, "rb")
    if not pa.Codec.is_available(codec):
        raise UserError(f"{file}: this pyarrow was built without {codec}; decompress the file first")
    return io.BufferedReader(cast(io.RawIOBase, pa.CompressedInputStream(str(file), codec)))


def content(file: Path) -> bytes:
    """All bytes of a text file, decompressed. Raises a UserError if it cannot be read or is not UTF-8 (naming the line)."""
    try:
        with open_bytes(file) as stream:
            data = stream.read()
    except OSError as error:
        raise unreadable(file, error) from error
    check_utf8(io.BytesIO(data), str(file))
    return data


def unreadable(file: object, error: BaseException) -> UserError:
    """The error to raise if a reader fails."""
    return UserError(f"{file}: cannot be read: {type(error).__name__}: {one_line(error)[:200]}")
