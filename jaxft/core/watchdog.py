"""Ends a process whose run no longer moves, and says which process of the run is the silent one.

XLA waits for ever for a process that lives but makes no progress, and JAX ends the others with a trace of its own if one
dies. Each process therefore writes every few seconds, where all can read it, what its main thread did last (`core.pulse`),
and reads what the others wrote.
"""

import faulthandler
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn, Protocol, Self

from jaxft.core.cluster import ServiceBoard
from jaxft.core.errors import RESTART, UserError, one_line, shortened
from jaxft.core.pulse import PULSE
from jaxft.core.signals import Stopped
from jaxft.core.uninterruptible import leave, leave_now

HOST = socket.gethostname()
OFTEN = 1.0  # seconds between two looks
MOST_AT_ONCE = 32  # processes that may look every second; more look more seldom, as all read what all wrote
MOST_NAMED = 8  # processes in a message
MORE = 20.0  # seconds in which the thread finds out which process is lost
MAIN_LATER = 3.0  # seconds by which process 0, which keeps the board, leaves later than the others
PAUSE = 10.0  # seconds by which a look may be late on a busy machine
GRACE = 5.0  # seconds after the failure of another process in which this one may end by itself

_alone = threading.Event()  # this process has failed or was stopped, and ends without waiting for the others


class Board(Protocol):
    """Where all processes of a run read what each has written last; ConnectionError if it cannot be reached.

    Attributes:
      lost: what an exchange between processes raises if the connection to one of them is lost.
    """

    lost: type[Exception]

    def write(self, text: str) -> None:
        """Replace what this process has written."""

    def read(self) -> Mapping[int, str]:
        """What each process has written, by its number."""
        ...


@dataclass(frozen=True)
class Seen:
    """What is known of another process: what it has written, and since when that has not changed."""

    text: str
    since: float

    @cached_property
    def about(self) -> dict[str, Any]:
        """What it has written."""
        return json.loads(self.text)

    def name(self, number: int) -> str:
        """What messages call it."""
        return f"process {number} on {self.about['host']} (step {self.about['step']})"


@dataclass(frozen=True)
class Verdict:
    """Why a process has to leave, with which exit code, and whether it shows where its threads stand."""

    why: str
    code: int = RESTART
    threads: bool = False


class Watchdog:
    """A context in which a thread watches this process and, with a board, the others.

    Args of the constructor:
      number, count: of this process, and of all.
      board: None for a single process.
      stall: seconds without a sign of life of the main thread after which the process ends; None never ends it.
      silent: seconds without a word of another process's watchdog after which this one ends.
      leave: ends the process; a test passes another.
    """

    def __init__(
        self,
        number: int = 0,
        count: int = 1,
        board: Board | None = None,
        *,
        stall: float | None,
        silent: float = float("inf"),
        leave: Callable[[Verdict], None] | None = None,
    ) -> None:
        self._number, self._count, self._board, self._stall = number, count, board, stall
        self._later = MAIN_LATER if board and number == 0 else 0.0
        self._silent = silent + self._later
        self._interval = min(OFTEN * max(1.0, count / MOST_AT_ONCE), (stall or OFTEN * 10) / 10)
        self._leave = leave or say_and_leave
        self._others: dict[int, Seen] = {}
        self._looks, self._answered, self._unreachable = 0, time.monotonic(), ""
        self._judged = time.monotonic()
        self._done = threading.Event()
        self._passed_on = False  # a signal that another process has got before the first step
        # A call of the board waits for ever if the host that keeps it hangs, so the thread that judges makes none.
        tasks = {"watchdog": self.judge, "board": self.exchange}
        self._threads = [
            threading.Thread(target=self._repeat, args=(task,), name=name, daemon=True)
            for name, task in tasks.items()
            if (stall or board) and (board or task != self.exchange)
        ]

    def __enter__(self) -> Self:
        PULSE.beat()
        PULSE.number = self._number
        self._answered = self._judged = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if self._board and isinstance(error, self._board.lost):
            # Another process is lost: the thread finds out which one, and leaves.
            self._done.wait(self._silent + MORE)
        self._done.set()
        PULSE.others = {}
        if self._board:
            for thread in self._threads:
                thread.join(OFTEN)
            with suppress(ConnectionError):
                self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Tell the others how this process ends; after an error, wait until they end, too, or know of it.

        Then it leaves at once, because JAX would wait for those that have left; unless all others are done, and wait for it.
        """
        assert self._board
        if error is None or (isinstance(error, Stopped) and not error.alone):
            self._write(ended="done")
            return
        if isinstance(error, Stopped):
            own: dict[str, Any] = {"ended": "stopped", "signal": error.number}
        else:
            own = {"ended": "failed", "why": shortened(one_line(error)) or type(error).__name__}
        self._write(**own)
        _alone.set()
        end = time.monotonic() + (GRACE + MAIN_LATER if self._number == 0 else MAIN_LATER)
        others = self._others_when(lambda about: "ended" in about, end)
        if len(others) == self._count - 1 and all(about.get("ended") == "done" for about in others):
            _alone.clear()
            return
        self._write(**own, leaves=True)
        if self._number == 0:  # which keeps the board, and without which the others would be aborted
            self._others_when(lambda about: "leaves" in about or about.get("ended") == "done", end)

    def _others_when(self, asked: Callable[[Mapping[str, Any]], bool], end: float) -> list[dict[str, Any]]:
        """What the others have written, as soon as what is asked is true of all, or at this time."""
        assert self._board
        while True:
            others = [json.loads(text) for number, text in self._board.read().items() if number != self._number]
            if time.monotonic() >= end or (len(others) == self._count - 1 and all(map(asked, others))):
                return others
            time.sleep(OFTEN / 5)

    def exchange(self) -> None:
        """Write what this process did last, and read what the others did."""
        assert self._board
        self._looks += 1
        try:
            self._write(look=self._looks)
            found = self._board.read()
        except ConnectionError as error:
            self._unreachable = one_line(error)
            return
        self._answered = now = time.monotonic()
        changed = {n: Seen(x, now) for n, x in found.items() if n not in self._others or self._others[n].text != x}
        self._others = {n: x for n, x in (self._others | changed).items() if n != self._number}
        PULSE.others = {n: x.about for n, x in self._others.items()}

    def judge(self) -> None:
        """Leave if this process hangs, or another one has died, hangs or has failed."""
        now = time.monotonic()
        if now - self._judged > PAUSE + 10 * self._interval:  # this process was suspended: all begins anew
            self._others = {number: replace(other, since=now) for number, other in self._others.items()}
            self._answered = now
            PULSE.beat()
        self._judged = now
        if (verdict := self.verdict()) and not self._done.is_set():
            self._leave(replace(verdict, why=f"process {self._number} on {HOST}: {verdict.why}"))

    def verdict(self) -> Verdict | None:
        """Why the process has to leave; None if the run moves."""
        now = time.monotonic()
        for number, other in sorted(self._others.items()):
            since = now - other.since
            if other.about.get("ended") == "stopped":
                number_of_signal = other.about["signal"]
                if not self._passed_on:
                    self._passed_on = True
                    os.kill(os.getpid(), number_of_signal)
                if since > GRACE + self._later:
                    name = signal.Signals(number_of_signal).name
                    return Verdict(f"{other.name(number)} was stopped by {name}", 128 + number_of_signal)
            if other.about.get("ended") == "failed" and since > GRACE + self._later:
                return Verdict(f"{other.name(number)} has failed: {other.about['why']}", UserError.code)
            if "ended" not in other.about and since > self._silent and self._answered > other.since + self._silent / 2:
                return Verdict(f"nothing is heard of {other.name(number)} for {since:.0f} s: it died, or its host hangs")
        if self._board and (self._unreachable or now - self._answered > self._silent):
            reason = self._unreachable or f"no answer for {now - self._answered:.0f} s"
            return Verdict(f"process 0, which all others depend on, cannot be reached: {reason}")
        idle = now - PULSE.at
        if self._stall is None or idle <= self._stall + self._later:
            return None
        return Verdict(f"nothing has happened for {idle:.0f} s (runtime.stall), {self._states()}", threads=True)

    def _write(self, **more: Any) -> None:
        assert self._board
        own = PULSE
        about = {"host": HOST, "phase": own.phase, "step": own.step, "idle": round(time.monotonic() - own.at, 1)}
        about["own_seconds"] = own.own_seconds
        self._board.write(json.dumps(about | more))

    def _states(self) -> str:
        """What each process did last, the one that is furthest behind first."""
        own = PULSE
        others = sorted(self._others.items(), key=lambda item: (item[1].about["step"], -item[1].about["idle"]))
        each = [f"{other.name(n)} is {other.about['phase']}, idle for {other.about['idle']:.0f} s" for n, other in others]
        more = f"; and {len(each) - MOST_NAMED} more" if len(each) > MOST_NAMED else ""
        return "; ".join([f"{own.phase} after step {own.step}", *each[:MOST_NAMED]]) + more

    def _repeat(self, task: Callable[[], None]) -> None:
        while not self._done.wait(self._interval):
            task()


def of_run(*, stall: float | None, heartbeat: float, alone: bool) -> AbstractContextManager[Any]:
    """The watchdog of this process: with the others of its run, or `alone` if it is the only one.

    Args:
      stall, heartbeat: seconds, as `runtime.stall` and `runtime.heartbeat_timeout`.
      alone: whether a single process is watched; a notebook would not want to end.
    """
    import jax

    number, count = jax.process_index(), jax.process_count()
    if count > 1:
        return Watchdog(number, count, ServiceBoard(), stall=stall, silent=heartbeat)
    return Watchdog(stall=stall) if alone else nullcontext()


def ends_alone() -> bool:
    """Whether this process has failed or was stopped, and ends without waiting for the others of its run."""
    return _alone.is_set()


def end(code: int) -> NoReturn:
    """End the process; at once if it ends alone, as JAX would wait five minutes for the others, and then abort."""
    if ends_alone():
        leave_now(code)
    leave(code)


def say_and_leave(verdict: Verdict) -> None:
    """Say why, show where the threads stand if that is of use, and end the process."""
    with suppress(OSError, ValueError):
        again = (
            f"the exit code is {verdict.code}, and the same command resumes" if verdict.code == RESTART else "it leaves, too"
        )
        os.write(2, f"{verdict.why}; {again}\n".encode())
        if verdict.threads:
            faulthandler.dump_traceback(file=2, all_threads=True)
    os._exit(verdict.code)
