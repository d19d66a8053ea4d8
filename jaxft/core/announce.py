"""Lines about what takes long, so that a log shows that a run is alive."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST = 10.0  # seconds until the first reminder; each of the later ones comes after twice as long


@contextmanager
def announced(what: str, say: Callable[[str], None], first: float = FIRST) -> Iterator[None]:
    """Say what begins, and at ever longer intervals that it still goes on."""
    say(what)
    over, start = threading.Event(), time.perf_counter()

    def remind() -> None:
        wait = first
        while not over.wait(wait):
            say(f"still {what}, {time.perf_counter() - start:.0f} s so far")
            wait *= 2

    reminder = threading.Thread(target=remind, name="announced", daemon=True)
    reminder.start()
    try:
        yield
    finally:
        over.set()
        reminder.join()
