"""Files that one process of a run makes for all that share a folder; the others wait for it, and read them.

They exchange texts through the service of process 0, not through their devices: a process that waits shows signs of life,
and takes signals. If one of them dies or fails, the watchdog ends those that wait.
"""

import contextlib
import itertools
import json
import secrets
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from jaxft.core import distributed
from jaxft.core.cluster import ServiceBoard
from jaxft.core.errors import UserError, one_line
from jaxft.core.pulse import PULSE

T = TypeVar("T")
POLL = 0.1  # seconds between two looks


class OneWriter:
    """Makes files once for all processes that share a folder. All processes call it equally often, in the same order.

    Args of the constructor:
      number, count: of this process, and of all.
      board: opens the board of a name (`core.watchdog.Board`), on which every process writes one text.
    """

    def __init__(self, number: int, count: int, board: Callable[[str], Any]) -> None:
        self._number, self._count, self._board = number, count, board
        self._calls = itertools.count()
        self._writers: dict[Path, int] = {}  # of a folder: the lowest number of all processes that share it

    def __call__(self, path: Path, look: Callable[[], T | None], make: Callable[[], tuple[T, bool]]) -> T:
        """What is at a path: of all processes that share its folder and find nothing there, only the first one makes it.

        Args:
          path: of what is made. Processes do not wait for one that makes something of another name.
          look: reads it; None if there is nothing.
          make: makes it; returns it, and whether it has been written to the path.

        Raises:
          UserError: if `make` fails, on the processes that wait for it, too.
        """
        found, call = look(), next(self._calls)
        about = {"name": path.name, "found": found is not None, "known": path.parent in self._writers}
        each = self._exchange(f"{call}/found", **about, token=secrets.token_hex(4))
        if found is not None and all(other["found"] for other in each):
            return found
        if not all(other["known"] for other in each):
            self._writers[path.parent] = self._writer(path.parent, f"{each[0]['token']}-", call)
        writer = self._writers[path.parent]
        done = self._board(f"{call}/done")
        if found is None and writer != self._number and each[writer]["name"] == path.name:
            what = {"written": True} if each[writer]["found"] else _wait(done, writer + 1, writer)[writer]
            if "failed" in what:
                raise UserError(what["failed"])
            if what["written"] and distributed.appears(path):
                found = look()
        try:
            made, written = (found, True) if found is not None else make()
        except BaseException as error:
            with contextlib.suppress(ConnectionError):
                done.write(json.dumps({"failed": one_line(error) or type(error).__name__}))
            raise
        done.write(json.dumps({"written": written}))
        return made

    def _writer(self, folder: Path, token: str, call: int) -> int:
        """The first process that shares a folder with this one: each leaves a mark there, and looks for those of others."""
        mark = folder / f"{distributed.MARK}{token}{self._number}"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            mark.write_text("", encoding="utf-8")
        self._exchange(f"{call}/marked")
        end = time.monotonic() + distributed.PATIENCE
        while (lowest := min({self._number, *_marks(folder, token)})) and time.monotonic() < end:
            PULSE.beat()
            time.sleep(POLL)
        self._exchange(f"{call}/seen")
        with contextlib.suppress(OSError):
            mark.unlink()
        return lowest

    def _exchange(self, board_name: str, /, **about: Any) -> list[dict[str, Any]]:
        """What each process writes on a board, after all have done so."""
        board = self._board(board_name)
        board.write(json.dumps(about))
        found = _wait(board, self._count)
        return [found[number] for number in range(self._count)]


def _wait(board: Any, count: int, first: int = 0) -> dict[int, dict[str, Any]]:
    """What the processes from `first` to `count` - 1 write on a board, after all of them have done so.

    Raises:
      board.lost: if process 0, which keeps the board, is lost.
    """
    with PULSE.waiting():
        while True:
            try:
                found = board.read()
            except ConnectionError as error:
                raise error.__cause__ or error from None
            if found.keys() >= set(range(first, count)):
                return {number: json.loads(text) for number, text in found.items()}
            PULSE.beat()
            time.sleep(POLL)


def _marks(folder: Path, token: str) -> list[int]:
    """The processes whose marks are seen in a folder; listing it makes network file systems look again."""
    start = distributed.MARK + token
    with contextlib.suppress(OSError):
        return [int(path.name.removeprefix(start)) for path in folder.iterdir() if path.name.startswith(start)]
    return []


@cache
def _of_run(number: int, count: int) -> OneWriter:
    return OneWriter(number, count, lambda name: ServiceBoard(f"jaxft/written-once/{name}"))


def written_once(path: Path, look: Callable[[], T | None], make: Callable[[], tuple[T, bool]]) -> T:
    """`OneWriter` for the processes of this run.

    A thread in the background does not wait for other processes, whose threads may do something else meanwhile.
    """
    count = distributed.process_count()
    if count > 1 and threading.current_thread() is threading.main_thread():
        return _of_run(distributed.process_number(), count)(path, look, make)
    found = look()
    return make()[0] if found is None else found
