"""Work in other threads that cannot be interrupted, such as compiling, and how a process ends without waiting for it."""

import atexit
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

_busy: set[int] = set()  # threads


@contextmanager
def uninterruptible() -> Iterator[None]:
    """A context in which `leave` does not wait for this thread."""
    own = threading.get_ident()
    _busy.add(own)
    try:
        yield
    finally:
        _busy.discard(own)


def leave(code: int) -> NoReturn:
    """End the process with an exit code; after the functions of `atexit` and at once, if such work is going on.

    Python would join its threads first, and a program for an accelerator may take minutes to compile.
    """
    if not _busy:
        sys.exit(code)
    atexit._run_exitfuncs()
    leave_now(code)


def leave_now(code: int) -> NoReturn:
    """End the process with an exit code, without the functions of `atexit`."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
