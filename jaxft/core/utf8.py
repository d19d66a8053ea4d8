"""Text files are UTF-8; an error names the line and the byte of anything else."""

import os
from pathlib import Path
from typing import BinaryIO

from jaxft.core.errors import UserError
from jaxft.core.remote import local


def read_text(path: str | os.PathLike[str], where: str = "") -> str:
    """Return the text of a file, also at a URL, without its byte order mark; messages call it `where`, or by its path.

    Raises:
      UserError: if the file cannot be read or is not UTF-8.
    """
    where = where or str(path)
    try:
        return Path(local(path) if isinstance(path, str) else path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        check_utf8(local(path) if isinstance(path, str) else path, where)
        raise


def check_utf8(file: str | os.PathLike[str] | BinaryIO, where: str) -> None:
    """Raise a UserError that names the first line, and its byte, of a path or an open file that is not UTF-8."""
    with open(file, "rb") if isinstance(file, str | os.PathLike) else file as lines:
        for number, line in enumerate(lines, 1):
            decode(line, number, where)


def decode(line: bytes, number: int, where: str) -> str:
    """Return a line as text, or raise a UserError that names the line and its first byte that is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte = line[min(error.start, len(line) - 1)]
        raise UserError(f"{where}: line {number} is not UTF-8 (byte {byte:#04x}); convert the file") from None
