"""Output files are written atomically; links, devices and pipes are written through, and URLs uploaded."""

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jaxft.core.errors import UserError, one_line
from jaxft.core.paths import check_url, is_url, plain
from jaxft.core.upload import check_writable, uploaded_file

STANDARD = "-"
_DESCRIPTOR = re.compile(r"/(?:dev|proc/(self|thread-self|\d+))/fd/(\d+)")
_STREAMS = {STANDARD: 0, "/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_MAX_LINKS = 40


def check_output(name: str, option: str = "--output", *, source: str | None = None) -> None:
    """Raise a UserError, before the work begins, if the output is a directory, not writable or the `source`."""
    name = plain(name)
    if is_url(name):
        if source == name:
            raise UserError(f"{option} {name}: is an input file; give another name")
        if (found := check_writable(option, name)) and found["type"] == "directory":
            raise UserError(f"{option} {name}: is a directory; give a file name")
        return
    check_url(option, name)
    target, descriptor = target_of(name, option)
    if descriptor is not None:
        return
    if target.is_dir():
        raise UserError(f"{option} {name}: is a directory; give a file name")
    if target.exists() and not target.is_file():
        if not os.access(target, os.W_OK):
            raise UserError(f"{option} {name}: is not writable")
        return
    if source and target.exists() and (read := Path(source).expanduser()).exists() and target.samefile(read):
        raise UserError(f"{option} {name}: is an input file; give another name")
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{option} {name}: {folder} is not a writable directory")


@contextmanager
def writing(name: str, option: str = "--output") -> Iterator[BinaryIO]:
    """Opens the output for bytes. `-` is standard output; devices and pipes are written to, links are followed.

    A regular file is written under a temporary name beside the target. It replaces the target, and takes its mode, if the
    block ends without an error; otherwise the target stays as it is. A target with hard links gets the new content under
    all its names. What is written to a URL is uploaded at the end. A failure to write is a UserError.
    """
    name = plain(name)
    if is_url(name):
        with uploaded_file(name) as path, open(path, "wb") as file:
            yield file
        return
    target, descriptor = target_of(name, option)
    try:
        if descriptor is not None:
            sys.stdout.flush()
            with os.fdopen(os.dup(descriptor), "wb") as file:
                yield file
        elif target.exists() and not target.is_file():
            with open(target, "wb") as file:
                yield file
        else:
            with _replacing(target) as file:
                yield file
    except OSError as error:
        raise UserError(f"{name}: cannot be written: {error.strerror or one_line(error)}") from error


@contextmanager
def reading(name: str) -> Iterator[str]:
    """Yields the path or URL of a regular file with the input: JSON lines from standard input (`-`), a pipe or a device."""
    check_url("--input", name)
    if is_url(name := plain(name)):
        yield name
        return
    path = Path(name).expanduser()
    if name != STANDARD and (path.is_file() or path.is_dir() or not path.exists()):
        if not path.exists() and not set(name) & set("*?["):
            raise UserError(f"{name[:200]}: no such file (--input)")
        yield name
        return
    _, descriptor = (path, 0) if name == STANDARD else target_of(name, "--input")
    with tempfile.TemporaryDirectory(prefix="jaxft-input-") as folder:
        copy = Path(folder) / "standard_input.jsonl"
        try:
            with open(copy, "wb") as file, open(path if descriptor is None else os.dup(descriptor), "rb") as source:
                shutil.copyfileobj(source, file)
        except OSError as error:
            raise UserError(f"--input {name}: cannot be read: {error.strerror or one_line(error)}") from error
        if not copy.stat().st_size:
            raise UserError(f"--input {name}: is empty; json lines are read from there")
        try:
            yield str(copy)
        except UserError as error:
            text = str(error).replace(str(copy), "standard input" if descriptor == 0 else name)
            advice = "; it is read as json lines, plain text only from a .txt file" if "not valid JSON" in text else ""
            raise UserError(text + advice) from error


def target_of(name: str, option: str) -> tuple[Path, int | None]:
    """(the path after following links, the open file descriptor if the path names one)."""
    if name == STANDARD:
        return Path(name), 1
    path = Path(name).expanduser()
    for _ in range(_MAX_LINKS):
        normal = os.path.normpath(path if path.is_absolute() else Path.cwd() / path)
        if normal in _STREAMS:
            return path, _STREAMS[normal]
        if match := _DESCRIPTOR.fullmatch(normal):
            of_this_process = not (match[1] or "").isdecimal() or int(match[1]) == os.getpid()
            return path, int(match[2]) if of_this_process else None
        if not path.is_symlink():
            return path, None
        path = path.parent / os.readlink(path)
    raise UserError(f"{option} {name}: {os.strerror(errno.ELOOP)}")


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file beside the target that replaces the target at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    old = os.stat(target) if target.exists() else None
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}."[:100], dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        put_in_place(Path(temporary), target, old)
    finally:
        Path(temporary).unlink(missing_ok=True)


def put_in_place(complete: Path, target: Path, old: os.stat_result | None) -> None:
    """Give a complete file the name of its target, whose `old` status, if there is one, says its mode and hard links."""
    if old is not None and old.st_nlink > 1:
        shutil.copyfile(complete, target)
        complete.unlink()
        return
    umask = os.umask(0)  # it can only be read by setting it
    os.umask(umask)
    os.chmod(complete, stat.S_IMODE(old.st_mode) if old is not None else 0o666 & ~umask)
    os.replace(complete, target)
