"""One run per URL: an object `run.lock` there names the owner, as the lock file of a local directory does.

It is created only if it does not exist, which the server decides on gs:// (ifGenerationMatch=0) and s3:// (If-None-Match),
and rewritten every BEAT seconds. No clock but this machine's is needed: whoever wants to take it over watches it.
"""

import json
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from jaxft.core import lock
from jaxft.core.errors import UserError
from jaxft.core.remote import reading
from jaxft.core.upload import make_folder

BEAT = 20.0  # seconds between signs of life
STALE = 100.0  # seconds without a sign of life, watched from here, after which an owner counts as dead
LONG = 3600.0  # seconds since the last sign of life, by both clocks, after which nobody watches
LOOK = 5.0  # seconds between two looks while watching
_held: set[str] = set()  # tokens of this process


class RemoteLock:
    """The lock of a URL, from `acquire` until `close`.

    Attributes:
      lost: who holds it now, if another process has taken it over.
    """

    def __init__(self, fs: Any, path: str, url: str, token: str) -> None:
        self.lost: str | None = None
        self._fs, self._path, self._url, self._token = fs, path, url, token
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="remote lock", daemon=True)
        _held.add(token)
        self._thread.start()

    def check(self) -> None:
        """Raise a UserError if another process has been seen to hold the lock; asks nobody."""
        if self.lost:
            raise UserError(
                f"{self._url}/{lock.FILE}: is {self.lost} now: this run was taken for dead, and stops: two must not write "
                "at one URL"
            )

    def look(self) -> None:
        """Look at the URL whose the lock is, and raise as `check`; errors are those of the protocol."""
        owner = _read(self._fs, self._path)
        if owner is None or owner["token"] != self._token:
            self.lost = "nobody's" if owner is None else lock.describe(owner)
        self.check()

    def close(self) -> None:
        """Release the lock, if the server can be reached."""
        self._done.set()
        self._thread.join()
        _held.discard(self._token)
        try:
            if (owner := _read(self._fs, self._path)) and owner["token"] == self._token:
                self._fs.rm_file(self._path)
        except Exception as error:  # noqa: BLE001 (of any protocol; the next run takes it over)
            print(f"{self._url}/{lock.FILE} could not be removed ({type(error).__name__})", file=sys.stderr)

    def _renew(self) -> None:
        while not self._done.wait(BEAT):
            try:
                self.look()
                self._fs.pipe_file(self._path, _content(self._token))
            except UserError:
                return
            except Exception:  # noqa: BLE001 (the server may not be reachable for a while)
                continue


def acquire(
    fs: Any, root: str, url: str, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
) -> RemoteLock:
    """Acquire the lock of a URL, if need be from an owner that is dead; `say` prints a line to the user.

    An owner on this machine is dead if its process has ended. One on another machine is dead if the lock does not change for
    STALE seconds, or says that it has not changed for LONG.

    Args:
      fs, root: the file system of fsspec, and the path of the URL in it.
      url: as messages name it.

    Raises:
      Held: if another process works there, naming it.
      UserError: if the URL cannot be written.
    """
    path, token = f"{root}/{lock.FILE}", uuid.uuid4().hex
    with reading(url, "written"):
        make_folder(fs, root)
        while not _create(fs, path, token):
            owner = _read(fs, path)
            if owner is None:
                continue  # the lock was released in the meantime
            if _is_alive(owner, fs, path, url, say):
                raise lock.Held(
                    f"output_dir {url}: another run is using it: {lock.describe(owner)}; choose another --output_dir, or "
                    "wait until it has ended"
                )
            say(f"taking over {url}/{lock.FILE} of {lock.describe(owner)}, which has ended without releasing it")
            if (now := _read(fs, path)) and now["token"] == owner["token"]:
                fs.rm_file(path)
    return RemoteLock(fs, path, url, token)


def _content(token: str) -> bytes:
    return json.dumps({**lock.identity(), "token": token, "time": time.time()}).encode()


def _create(fs: Any, path: str, token: str) -> bool:
    """Whether the lock did not exist and is this process's now; it looks before and after, as not all servers decide."""
    fs.invalidate_cache()
    if _read(fs, path) is not None:
        return False
    try:
        fs.pipe_file(path, _content(token), mode="create")
    except FileExistsError:
        return False
    owner = _read(fs, path)
    return owner is not None and owner["token"] == token


def _read(fs: Any, path: str) -> dict[str, Any] | None:
    """The owner of a lock; None if the lock is free."""
    try:
        owner = json.loads(fs.cat_file(path))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):  # damaged, or just being written
        owner = None
    return {**lock.EMPTY, "time": 0.0, **owner} if isinstance(owner, dict) else {**lock.EMPTY, "time": 0.0}


def _is_alive(owner: dict[str, Any], fs: Any, path: str, url: str, say: Callable[[str], None]) -> bool:
    dead = lock.is_dead(owner)
    if owner["token"] in _held:
        return True
    if dead is not None:
        return not dead
    if isinstance(owner["time"], int | float) and 0 < owner["time"] < time.time() - LONG:
        return False
    say(f"{url}/{lock.FILE} is {lock.describe(owner)}'s; waiting up to {STALE:.0f} s for a sign of life")
    end = time.monotonic() + STALE
    while time.monotonic() < end:
        time.sleep(LOOK)
        if (now := _read(fs, path)) is None:
            return False
        if (now["token"], now["time"]) != (owner["token"], owner["time"]):
            return True
    return False
