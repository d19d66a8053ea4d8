"""Signals that ask a run to stop: it finishes its step, writes a checkpoint and stops."""

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any, Self

from jaxft.core import distributed
from jaxft.core.errors import shown

# From a scheduler, from a terminal that closes, and Ctrl-C.
WATCHED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name))


def nothing() -> None:
    """Check for no signal."""


class Stopped(BaseException):
    """A run has stopped because of the signal `number`; a BaseException, so that no handler of errors catches it.

    `alone` says that of several processes this one has stopped without an agreement.
    """

    def __init__(self, number: int, text: str, *, alone: bool = False) -> None:
        super().__init__(shown(text))
        self.number, self.alone = number, alone


class Interrupted(Exception):
    """The signal `number` has arrived between two steps: what is done there is given up, and the last step is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Watch:
    """A context in which signals are remembered instead of ending the run at once; ignored signals (nohup) stay ignored.

    Several processes agree on the step after which they stop through JAX's preemption service. It listens to SIGTERM, so
    other signals are passed on as SIGTERM. Before the first step there is nothing to agree on: the process that gets a
    signal stops at once, and its watchdog passes the signal on.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._several = distributed.process_count() > 1
        self._armed = False
        self._calls = 0
        self._before: dict[int, Any] = {}
        self._service: _Handler | None = None  # JAX's of SIGTERM, until the first step

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only the main thread can set handlers
            for number in WATCHED:
                if self._several and number == signal.SIGTERM:
                    self._service = _Handler(number)
                    signal.signal(number, self._handle)
                elif signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._listen_to_service()
        for number, before in self._before.items():
            signal.signal(number, before)

    def arm(self) -> None:
        """From now on a signal waits for a checkpoint; before, there is nothing to save and it ends the run at once."""
        self._armed = True
        self._listen_to_service()

    def disarm(self) -> None:
        """Everything is saved: from now on a signal ends the run at once, and so does one that arrived after the last step.

        Raises:
          Stopped, KeyboardInterrupt: for a signal that arrived after the last step.
        """
        self._armed = False
        if self.number is not None and not self._several:
            self._end(self.number)

    def heard(self) -> int | None:
        """The signal because of which the run stops now, or None; the same on all processes.

        All processes call it equally often, after every execution of the train step and of other programs.
        """
        if not self._several:
            return self.number
        from jax.experimental import multihost_utils

        self._calls += 1
        stop = multihost_utils.reached_preemption_sync_point(self._calls)
        return (self.number or int(signal.SIGTERM)) if stop else None

    def check(self) -> None:
        """Like `heard`, in work between two steps that takes long.

        Raises:
          Interrupted: if there is a step to save.
          Stopped, KeyboardInterrupt: if there is none.
        """
        if (number := self.heard()) is not None:
            if self._armed:
                raise Interrupted(number)
            self._end(number)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self._armed and (self._service or not self._several):
            # Python swallows exceptions in callbacks of its garbage collector: then `check` or `heard` stops the run.
            self.number = number
            self._end(number, alone=self._several)
        if number == signal.SIGINT and self.number is not None:
            os.write(2, b"stopped at once; the same command resumes from the last checkpoint\n")
            os._exit(128 + number)
        if self.number is None:
            name = signal.Signals(number).name
            os.write(2, f"{name}: a checkpoint follows this step, then the run stops (Ctrl-C leaves at once)\n".encode())
            self.number = number
            if self._several:
                os.kill(os.getpid(), signal.SIGTERM)

    def _listen_to_service(self) -> None:
        if self._service:
            self._service.restore()
            self._service = None

    def _end(self, number: int, *, alone: bool = False) -> None:
        text = "stopped; the same command resumes from the last checkpoint, if there is one"
        if number == signal.SIGINT:
            raise KeyboardInterrupt(text)
        raise Stopped(number, text, alone=alone)


@contextmanager
def said_when_stopped(text: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """A context of work without checkpoints, which a signal ends at once; `text` then says what is left of it.

    Yields what is called from time to time in long work, as a signal may go unnoticed otherwise. With several processes it
    does nothing: their `Watch` is that of the run.

    Raises:
      Stopped: for a signal.
    """
    with nullcontext() if distributed.process_count() > 1 else Watch() as watch:
        try:
            yield watch.check if watch else nothing
        except KeyboardInterrupt:
            raise Stopped(signal.SIGINT, text()) from None
        except Stopped as stopped:
            raise Stopped(stopped.number, text(), alone=stopped.alone) from None


class _Handler:
    """The handler of a signal that C++ code has set: Python can replace it, but neither return nor restore it."""

    def __init__(self, number: int) -> None:
        self._number, self._action = number, ctypes.create_string_buffer(1024)  # larger than any `struct sigaction`
        ctypes.CDLL(None).sigaction(number, None, self._action)

    def restore(self) -> None:
        ctypes.CDLL(None).sigaction(self._number, self._action, None)
