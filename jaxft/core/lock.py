"""One run per directory: a lock file names the owner of a directory, even if several machines share the directory.

Kernel locks are not used: on network file systems they often hold on one machine only. The lock file is created atomically
(as a link to a finished file, which is atomic on NFS), and its modification time is renewed while the owner is alive. On
the owner's machine the process itself is looked for instead, so a killed run can be resumed at once.
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
from typing import Any, Self

from jaxft.core.errors import UserError

FILE = "run.lock"
TAG = "by-"
BEAT = 10.0  # seconds between signs of life
STALE = 90.0  # seconds without a sign of life after which an owner on another machine counts as dead
DAY = 86_400.0  # seconds
EMPTY: dict[str, Any] = {"pid": 0, "host": "an unknown host", "start": None, "place": None, "token": None}
_held: set[str] = set()  # tokens of this process


class Held(UserError):
    """Another process that is alive holds the lock."""


class Lock:
    """The lock of a directory, from `acquire` until `close`."""

    def __init__(self, directory: Path, token: str) -> None:
        self._path = directory / FILE
        self._token = token
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lock", daemon=True)
        _held.add(token)
        self._thread.start()

    def check(self) -> None:
        """Raise a UserError if another process holds the lock (because this one was suspended) or its file was deleted."""
        owner = _read(self._path)
        if owner is None or owner["token"] != self._token:
            now = "nobody's" if owner is None else describe(owner)
            raise UserError(
                f"{self._path}: is {now} now: this run was taken for dead, and stops: two must not write in one directory"
            )

    def close(self) -> None:
        """Release the lock."""
        self._done.set()
        self._thread.join()
        _held.discard(self._token)
        with contextlib.suppress(OSError):
            if (owner := _read(self._path)) and owner["token"] == self._token:
                self._path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _renew(self) -> None:
        while not self._done.wait(BEAT):
            with contextlib.suppress(OSError):  # the file system may be unavailable for a while
                if (owner := _read(self._path)) and owner["token"] == self._token:
                    os.utime(self._path)


def acquire(directory: Path, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)) -> Lock:
    """Acquire the lock of an existing directory, if need be from an owner that is dead; `say` prints a line to the user.

    If the owner is on another machine, this waits until the lock file gets a new modification time (the owner is alive) or
    is `STALE` seconds old.

    Raises:
      Held: if another process works in the directory, naming it.
      UserError: if the directory cannot be written.
    """
    path, token = directory / FILE, uuid.uuid4().hex
    candidate = directory / f".{FILE}.{token}"
    try:
        candidate.write_text(json.dumps({**identity(), "token": token}), encoding="utf-8")
        try:
            while not _link(candidate, path):
                owner = _read(path)
                if owner is None:
                    continue  # the lock was released in the meantime
                if _is_alive(owner, path, candidate, say):
                    raise Held(
                        f"output_dir {directory}: another run is using it: {describe(owner)}; choose another "
                        "--output_dir, or wait until it has ended"
                    )
                say(f"taking over {path} of {describe(owner)}, which has ended without releasing it")
                _remove(path, owner["token"], directory)
        finally:
            candidate.unlink(missing_ok=True)
        for old in directory.glob(f".{FILE}.*"):  # from processes that were killed while they acquired the lock
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > STALE:
                    old.unlink()
    except OSError as error:
        raise UserError(f"output_dir {directory}: cannot be written: {error.strerror}") from error
    return Lock(directory, token)


def is_lock_file(name: str) -> bool:
    """Whether a file name is one that this module creates."""
    return name == FILE or name.startswith(f".{FILE}.")


def identity() -> dict[str, Any]:
    """This process: its pid, start time and host, and the boot and pid namespace in which the pid is unique."""
    return {"pid": os.getpid(), "start": _start_time(os.getpid()), "host": socket.gethostname(), "place": _namespace()}


def is_dead(owner: dict[str, Any]) -> bool | None:
    """Whether the process with this `identity` has ended; None if that cannot be seen from here."""
    if owner["host"] != socket.gethostname() or owner["place"] != _namespace():
        return None
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # a process of another user
    except (OSError, OverflowError, TypeError):
        return None
    if owner["start"] is None:  # without start times, the pid may belong to another process by now
        return None
    return _start_time(owner["pid"]) != owner["start"]


def process_tag() -> str:
    """A short tag of this process that any file system accepts, for the names of temporary files."""
    return f"{TAG}{os.getpid()}-{_start_time(os.getpid()) or ''}-{_machine_id()}"


def is_being_written(temporary: Path) -> bool:
    """Whether the process whose `process_tag` is in the name of a temporary folder may still write to it.

    A process on another machine may for a day. A folder without a process tag is from an old version and abandoned.
    """
    tag = next((part for part in reversed(temporary.name.split(".")) if part.startswith(TAG)), "")
    try:
        pid, start, machine = tag.removeprefix(TAG).split("-")
        owner = {**identity(), "pid": int(pid), "start": start or None}
        dead = is_dead(owner) if machine == _machine_id() else None
        return time.time() - temporary.stat().st_mtime < DAY if dead is None else not dead
    except (ValueError, OSError):
        return False


def _machine_id() -> str:
    return hashlib.sha256(f"{socket.gethostname()} {_namespace()}".encode()).hexdigest()[:12]


def _link(candidate: Path, path: Path) -> bool:
    """Link the file `candidate` to the name `path`; False if that exists."""
    try:
        os.link(candidate, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(candidate.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    return True


def _read(path: Path) -> dict[str, Any] | None:
    """The owner of a lock; None if the lock is free."""
    try:
        owner = json.loads(path.read_bytes())
        return owner if isinstance(owner, dict) and owner.keys() >= EMPTY.keys() else EMPTY
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):  # damaged, or another process is just writing it (see _link)
        return EMPTY


def _is_alive(owner: dict[str, Any], path: Path, candidate: Path, say: Callable[[str], None]) -> bool:
    dead = is_dead(owner)
    if owner["pid"] == os.getpid() and dead is False:
        return owner["token"] in _held
    if dead is not None:
        return not dead
    first = None
    while True:
        try:
            beat = path.stat().st_mtime
        except FileNotFoundError:
            return False
        os.utime(candidate)  # reads the file system's clock, which may differ from this machine's
        age = candidate.stat().st_mtime - beat
        if first not in (None, beat):
            return True
        if age > STALE:
            return False
        if first is None:
            say(f"{path} is {describe(owner)}'s; waiting up to {STALE - age:.0f} s for a sign of life")
        first = beat
        time.sleep(1)


def _remove(path: Path, token: str | None, directory: Path) -> None:
    """Remove the lock of a dead owner, but not that of an owner that has taken it since."""
    aside = directory / f".{FILE}.{uuid.uuid4().hex}"
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    moved = _read(aside)
    if moved is not None and moved["token"] != token:
        _link(aside, path)
    aside.unlink(missing_ok=True)


def describe(owner: dict[str, Any]) -> str:
    """An owner in words."""
    return f"process {owner['pid']} on {owner['host']}"


def _start_time(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None without /proc, or if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]  # a zombie has ended


def _namespace() -> str | None:
    """The machine's boot id and pid namespace (a container has its own)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None
