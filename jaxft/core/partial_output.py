"""The rows of an output that are written before all are: a command that was killed goes on after them."""

import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from jaxft.core.checksums import Damaged, of_part, read_sealed, write_sealed
from jaxft.core.errors import UserError, one_line
from jaxft.core.output import put_in_place, target_of
from jaxft.core.paths import is_url, plain

PARTIAL, STATE = ".partial", ".partial.state"
MOST_BYTES = 255 - len(f".{STATE}.new")  # of the name of an output, so that the names of the files beside it are valid
BLOCK = 1 << 20  # bytes written at once


class PartialOutput:
    """An output file whose rows are in `NAME.partial` until all are written; then that file takes its place.

    `NAME.partial.state` says what the rows are made of, and how many bytes of them are complete, with their digest. What
    follows these bytes, because the command was killed while it wrote, is cut off. A lock of the kernel keeps a second
    command away from the same output.

    Args of the constructor:
      name, option: of the output, for which `is_possible`.
      made_of: JSON values by name of all that determines the rows. Those of any other are not used.

    Attributes:
      path: `NAME.partial`.
      note: what was given to the last `commit` that counts, of this command or of the one before; empty without any.
      unused: why the rows of another command, which are there, are not used; empty if there are none or they are used.

    Raises:
      UserError: if another command is writing the output, or the partial file is not one of ours, or cannot be read.
    """

    def __init__(self, name: str, made_of: Mapping[str, Any], option: str = "--output") -> None:
        self._name, self._option = name, option
        self._target, _ = target_of(plain(name), option)
        self.path = self._target.with_name(self._target.name + PARTIAL)
        self._state = self._target.with_name(self._target.name + STATE)
        self._made_of = json.loads(json.dumps(made_of))
        self._descriptor: int | None = None
        self._digest, self._size = hashlib.sha256(), 0
        self.note: Mapping[str, Any] = {}
        self.unused = ""
        try:
            with suppress(FileNotFoundError):
                self._descriptor = self._open()
                self.unused = self._look(self._descriptor)
        except OSError as error:
            self.close()
            raise UserError(f"{self.path}: cannot be read: {error.strerror or one_line(error)}") from error

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """Opens the file for what follows the rows that are there; it takes the place of the output if all goes well.

        After a UserError nothing is left, as its cause is in what the rows are made of. After a failure to write, a signal
        or any other exception, what was committed stays for the same command.

        Raises:
          UserError: if it cannot be written.
        """
        file, remove = None, True
        try:
            old = os.stat(self._target) if self._target.exists() else None
            if self._descriptor is None:
                self._target.parent.mkdir(parents=True, exist_ok=True)
                self._save()  # first, as a partial file without a state is somebody else's
                self._descriptor = self._open(os.O_CREAT)
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
            if not self.note:
                self._save()
            file = self._file = _Digesting(self._descriptor, self._digest)
            yield file
            file.flush()
            os.fsync(self._descriptor)
            put_in_place(self.path, self._target, old)
        except UserError:
            raise
        except OSError as error:
            remove = not self.note
            raise UserError(f"{self._name}: cannot be written: {error.strerror or one_line(error)}") from error
        except BaseException:
            remove = not self.note
            raise
        finally:
            if remove:
                for path in (self.path, self._state, self._state.with_name(f".{self._state.name}.new")):
                    with suppress(OSError):
                        path.unlink()
            if file is not None:
                with suppress(OSError):  # what could not be written before cannot be written now
                    file.close()
            self.close()

    def close(self) -> None:
        """Let other commands write the output."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def commit(self, note: Mapping[str, Any]) -> None:
        """All that is written so far is complete: from here the same command goes on, with this `note` (JSON, not empty)."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._size = self._file.tell()
        self._save(note)
        self.note = note

    def _save(self, note: Mapping[str, Any] | None = None) -> None:
        about = {"bytes": self._size, "sha256": self._digest.hexdigest(), "note": dict(note or {})}
        write_sealed(self._state, {"made_of": self._made_of, **about})

    def _open(self, create: int = 0) -> int:
        """Opens and locks the partial file."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | create, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise UserError(
                    f"{self._option} {self._name}: another command is writing it; wait until it has ended, or give another "
                    "name"
                ) from None
            except OSError:  # a file system without locks
                return descriptor
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    return descriptor
            os.close(descriptor)  # the other command has just ended, and this is its output now

    def _look(self, descriptor: int) -> str:
        """Take over the rows that are there; returns why they cannot be used, if so."""
        try:
            state = read_sealed(self._state)
        except FileNotFoundError:
            self.close()
            raise UserError(
                f"{self.path}: is in the way, and nothing beside it says what it holds: remove it, or give another "
                f"{self._option}"
            ) from None
        except Damaged as error:
            return str(error)
        if changed := difference(state["made_of"], self._made_of):
            return changed
        size = int(state["bytes"])
        with open(os.dup(descriptor), "rb", buffering=0) as file:
            digest = of_part(file, size)
        if digest.hexdigest() != state["sha256"]:
            return f"{self.path.name} has other content than was written"
        self._size, self._digest, self.note = size, digest, state["note"]
        return ""


class _Digesting(io.BufferedWriter):
    """Writes to a file descriptor, and keeps a digest of what is written up to date."""

    def __init__(self, descriptor: int, digest: Any) -> None:
        super().__init__(io.FileIO(descriptor, "wb", closefd=False), BLOCK)
        self._digest = digest

    def write(self, data: Any) -> int:
        """Write bytes; `writelines` calls it, too."""
        self._digest.update(data)
        return super().write(data)


def is_possible(name: str, option: str = "--output") -> bool:
    """Whether an output is a regular file here, not standard output, a URL, a device or a pipe."""
    if is_url(name := plain(name)):
        return False
    target, descriptor = target_of(name, option)
    is_file = descriptor is None and (target.is_file() or not target.exists())
    return is_file and len(os.fsencode(target.name)) <= MOST_BYTES


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first difference in words, `data.max_length was 128 and is 64`; empty if there is none.

    Digests and the like, which nobody wants to read, are in lists: `the rows of --input have changed`.
    """
    for name in {**now, **before}:
        old, new = before.get(name), now.get(name)
        if old != new:
            plain = not any(isinstance(x, list | dict) or len(str(x)) > 60 for x in (old, new))
            return f"{name} was {json.dumps(old)} and is {json.dumps(new)}" if plain else f"{name} has changed"
    return ""
