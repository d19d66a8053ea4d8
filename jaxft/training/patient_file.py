"""A file about a run that grows with it, and does not end it if the disk is full."""

import os
from collections.abc import Callable
from pathlib import Path

from jaxft.training.result_files import Faults


class PatientFile:
    """Appends to a file. What cannot be written is kept, and follows as soon as the disk takes it; a line says so once.

    Nothing is buffered, so a process that is killed loses only what could not be written.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        """Open the file.

        Raises:
          OSError: if it cannot be opened.
        """
        self._path, self._faults, self._kept = path, Faults(say), b""
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def write(self, content: bytes = b"") -> None:
        """Append what is kept, and this."""
        self._kept += content
        with self._faults.said(self._path):
            while self._kept:  # a disk that fills takes a part
                self._kept = self._kept[self._file.write(self._kept) :]

    def sync(self) -> None:
        """Wait until it is on the disk."""
        self.write()
        with self._faults.said(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write what is kept, and close."""
        self.write()
        self._file.close()
