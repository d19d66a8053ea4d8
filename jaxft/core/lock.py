"""One run a directory: a file that says who works in it, also where several machines see the directory.

No lock of the kernel: those of network file systems are often only the machine's own. The owner's file is made at once and
whole (a link to a finished file, which NFS does atomically), and its time is renewed while the owner lives. On the owner's
machine its process is looked for instead: a killed run can be resumed at once.
"""

import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxft.core.errors import UserError

FILE = "run.lock"
MARK = "by-"
BEAT = 10.0  # seconds between signs of life
STALE = 90.0  # seconds without one after which an owner on another machine is taken for dead
DAY = 86_400.0  # seconds
EMPTY: dict[str, Any] = {"pid": 0, "host": "an unknown host", "start": None, "place": None, "token": None}
_held: set[str] = set()  # tokens of this process


class Lock:
    """The lock of a directory, from `hold` until it is closed."""

    def __init__(self, directory: Path, token: str) -> None:
        self._path = directory / FILE
        self._token = token
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        _held.add(token)
        self._thread.start()

    def check(self) -> None:
        """That it is still this process's.

        Raises:
          UserError: when another has taken it (this process had stood still, or somebody deleted it).
        """
        owner = _read(self._path)
        if owner is None or owner["token"] != self._token:
            now = "nobody's" if owner is None else _who(owner)
            raise UserError(
                f"{self._path}: is {now} now: this run was taken for dead, and stops: two must not write in one directory"
            )

    def close(self) -> None:
        """Give it back."""
        self._done.set()
        self._thread.join()
        _held.discard(self._token)
        with contextlib.suppress(OSError):
            if (owner := _read(self._path)) and owner["token"] == self._token:
                self._path.unlink()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            with contextlib.suppress(OSError):  # a file system that is away for a while
                if (owner := _read(self._path)) and owner["token"] == self._token:
                    os.utime(self._path)


def hold(directory: Path, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)) -> Lock:
    """Take the lock of a directory, which exists; over from an owner that is dead.

    Where the owner is on another machine, this waits until its file gets a new time (it lives) or is `STALE` seconds old.

    Args:
      directory: of the run.
      say: for people.

    Raises:
      UserError: when another process works in the directory, naming it; or when nothing can be written there.
    """
    path, token = directory / FILE, uuid.uuid4().hex
    mine = directory / f".{FILE}.{token}"
    try:
        mine.write_text(json.dumps({**identity(), "token": token}), encoding="utf-8")
        try:
            while not _make(mine, path):
                owner = _read(path)
                if owner is None:
                    continue  # given back meanwhile
                if _lives(owner, path, mine, say):
                    raise UserError(
                        f"output_dir {directory}: another run works in it: {_who(owner)}; give --output_dir another "
                        "name, or wait until it has ended"
                    )
                say(f"taking over {path} of {_who(owner)}, which has ended without giving it back")
                _remove(path, owner["token"], directory)
        finally:
            mine.unlink(missing_ok=True)
        _sweep(directory)
    except OSError as error:
        raise UserError(f"output_dir {directory}: cannot be written: {error.strerror}") from error
    return Lock(directory, token)


def is_mine(name: str) -> bool:
    """Whether a file of a directory is one of those that this module makes."""
    return name == FILE or name.startswith(f".{FILE}.")


def identity() -> dict[str, Any]:
    """This process: its number, when it started, its host, and the machine and name space in which the number counts."""
    return {"pid": os.getpid(), "start": _start(os.getpid()), "host": socket.gethostname(), "place": _place()}


def is_dead(owner: dict[str, Any]) -> bool | None:
    """Whether a process that had this `identity` has ended; None where that cannot be seen from here."""
    if owner["host"] != socket.gethostname() or owner["place"] != _place():
        return None
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    except (OSError, OverflowError, TypeError):
        return None
    if owner["start"] is None:  # a system that does not say: the number may be another process's by now
        return None
    return _start(owner["pid"]) != owner["start"]


def mark() -> str:
    """This process in a few letters that any file system takes; for names of what it leaves if it is killed."""
    return f"{MARK}{os.getpid()}-{_start(os.getpid()) or ''}-{_here()}"


def has_ended(marked: str) -> bool | None:
    """Whether the process of a `mark` has ended, as `is_dead`; True for what is no mark."""
    try:
        pid, start, here = marked.removeprefix(MARK).split("-")
        owner = {**identity(), "pid": int(pid), "start": start or None}
    except ValueError:
        return True
    return is_dead(owner) if here == _here() else None


def is_being_written(temporary: Path) -> bool:
    """Whether the process that made a temporary folder of `models.files.write_directory` may still fill it.

    One on another machine may for a day. A folder without the mark of a process is of a jaxft that set none: nobody's.
    """
    dead = has_ended(next((part for part in reversed(temporary.name.split(".")) if part.startswith(MARK)), ""))
    try:
        return time.time() - temporary.stat().st_mtime < DAY if dead is None else not dead
    except OSError:
        return False


def _here() -> str:
    return hashlib.sha256(f"{socket.gethostname()} {_place()}".encode()).hexdigest()[:12]


def _make(mine: Path, path: Path) -> bool:
    """Give `mine` the name `path` if that is free."""
    try:
        os.link(mine, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(mine.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    return True


def _read(path: Path) -> dict[str, Any] | None:
    """Who holds a lock; None when nobody does."""
    try:
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) and found.keys() >= EMPTY.keys() else EMPTY
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):  # torn, or another is just writing it (see _make)
        return EMPTY


def _lives(owner: dict[str, Any], path: Path, mine: Path, say: Callable[[str], None]) -> bool:
    if owner["pid"] == os.getpid() and is_dead(owner) is False:
        return owner["token"] in _held
    dead = is_dead(owner)
    if dead is not None:
        return not dead
    first, waiting = None, False
    while True:
        try:
            beat = path.stat().st_mtime
        except FileNotFoundError:
            return False
        first = beat if first is None else first
        os.utime(mine)  # what the clock of the file system says, which need not be this machine's
        age = mine.stat().st_mtime - beat
        if beat != first:
            return True
        if age > STALE:
            return False
        if not waiting:
            say(f"{path} is {_who(owner)}'s; waiting up to {STALE - age:.0f} s for a sign of life")
            waiting = True
        time.sleep(1)


def _remove(path: Path, token: str | None, directory: Path) -> None:
    """Remove the lock of a dead owner, and no other's that may have taken its place since."""
    aside = directory / f".{FILE}.{uuid.uuid4().hex}"
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    moved = _read(aside)
    if moved is not None and moved["token"] != token:
        _make(aside, path)
    aside.unlink(missing_ok=True)


def _sweep(directory: Path) -> None:
    """Remove what those have left who were killed while they took the lock."""
    now = time.time()
    for path in directory.glob(f".{FILE}.*"):
        with contextlib.suppress(OSError):
            if now - path.stat().st_mtime > STALE:
                path.unlink()


def _who(owner: dict[str, Any]) -> str:
    return f"process {owner['pid']} on {owner['host']}"


def _start(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None where the system has no /proc, or there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]  # a zombie has ended


def _place() -> str | None:
    """The boot of the machine and the name space of process numbers (a container has its own)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None
