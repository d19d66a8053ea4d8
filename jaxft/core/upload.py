"""Outputs at URLs: files and directories are written here and uploaded when they are complete."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxft.core import checksums
from jaxft.core.errors import UserError, one_line
from jaxft.core.paths import cache_dir, check_url, is_url, plain
from jaxft.core.remote import file_system, reading

FOLDER = "outputs"
OBJECT_STORES = {"gs", "gcs", "s3", "s3a", "abfs", "az", "oss", "hf"}


def check_writable(option: str, url: str) -> Any:
    """What fsspec says of a URL that is to be written, None if nothing is there.

    Raises:
      UserError: if its protocol cannot be written or its package is not installed, or if the server does not let us look.
    """
    check_url(option, url)
    if url.lower().startswith(("http://", "https://")):
        raise UserError(f"{option} {url}: a web address is only read; give a path, gs://, s3:// ...")
    fs, path = file_system(url)
    with reading(url):
        fs.invalidate_cache()
        with suppress(FileNotFoundError):
            return fs.info(path)
    return None


@contextmanager
def uploaded_file(url: str) -> Iterator[Path]:
    """The path of a new local file, which is uploaded if the block ends without an error.

    Raises:
      UserError: if it cannot be uploaded; it then stays here, and the message says where.
    """
    fs, path = file_system(url)
    with _kept_unless_sent(url) as folder:
        yield (file := folder / (path.rpartition("/")[2] or "output"))
        with reading(url, "written"):
            send(fs, file, path)


@contextmanager
def written_directory(where: str) -> Iterator[Path]:
    """The directory to write to: that of a path, or for a URL a new local one, whose files are then uploaded there.

    A file that they do not replace stays as it is.

    Raises:
      UserError: if they cannot be uploaded; they then stay here, and the message says where.
    """
    where = plain(where)
    if not is_url(where):
        yield Path(where)
        return
    fs, path = file_system(where)
    with _kept_unless_sent(where) as folder:
        yield (directory := folder / (path.rstrip("/").rpartition("/")[2] or "output"))
        with reading(where, "written"):
            for name in in_order(directory):
                send(fs, directory / name, f"{path}/{name}")


def in_order(directory: Path) -> list[str]:
    """The names of all files in a directory, each manifest after the files that it vouches for."""
    names = [x.relative_to(directory).as_posix() for x in directory.rglob("*") if x.is_file()]
    return sorted(names, key=lambda name: (name.rpartition("/")[2] == checksums.MANIFEST, -name.count("/"), name))


def make_folder(fs: Any, path: str) -> None:
    """Make a folder and its parents, except in an object store, which has none, and would make a bucket instead."""
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if not protocols & OBJECT_STORES:
        fs.makedirs(path, exist_ok=True)


def send(fs: Any, file: Path, path: str) -> None:
    """Upload a file; object stores show it when it is complete. The errors are those of the protocol."""
    make_folder(fs, path.rpartition("/")[0])
    fs.put_file(str(file), path)


def send_all(fs: Any, directory: Path, root: str, names: Sequence[str]) -> None:
    """Upload files of a directory, several at a time where the protocol can."""
    for folder in {f"{root}/{name}".rpartition("/")[0] for name in names}:
        make_folder(fs, folder)
    if names:
        fs.put([str(directory / name) for name in names], [f"{root}/{name}" for name in names])


@contextmanager
def _kept_unless_sent(url: str) -> Iterator[Path]:
    """A new folder, which is removed unless what was written there could not be uploaded."""
    root = cache_dir() / FOLDER
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=root))
    except OSError as error:
        raise UserError(f"{root}: cannot be written: {error.strerror}; set JAXFT_CACHE to a folder that can be") from error
    keep = False
    try:
        yield folder
    except UserError as error:
        if str(error).startswith(f"{url}: ") and any(folder.iterdir()):
            keep = True
            raise UserError(f"{one_line(error)}; what was to be written is in {folder}") from error
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
