"""Messages to a standard error that has gone away: a closed terminal or pipe, or a full disk, ends no run.

Paths in them that are local copies of what is at a URL are shown as that.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from jaxft.core.errors import shown


class _Lasting:
    """A stream whose failures to write are ignored, and which calls paths as the user does (`errors.show_as`)."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # a stream that was closed raises ValueError
            self._stream.write(shown(text))
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        with suppress(OSError, ValueError):
            return self._stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting() -> Iterator[None]:
    """A context in which writing to `sys.stderr` never fails.

    Without one (`2>&-`), messages are thrown away; `print` would send them to standard output, and the next file that is
    opened would be descriptor 2, to which libraries write.
    """
    before = sys.stderr
    if isinstance(before, _Lasting):
        yield
        return
    if before is None:
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.fstat(2)
        except OSError:
            os.dup2(null, 2)
        stream: Any = os.fdopen(null, "w")
    else:
        stream = before
    sys.stderr = own = _Lasting(stream)
    try:
        yield
    finally:
        if sys.stderr is own and before is not None:
            own.flush()
            sys.stderr = before
