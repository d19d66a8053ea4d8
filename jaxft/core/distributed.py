"""The processes of a run: agreeing on values, and checking that they share the run directory."""

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from jaxft.core.errors import UserError
from jaxft.core.pulse import PULSE

T = TypeVar("T")
MARK = ".shared-"
PATIENCE = 5.0  # seconds within which a network file system shows what another host wrote


def by_main_process(action: Callable[[], T]) -> T | None:
    """Call `action` on the main process and return its result there, None on the other processes.

    Raises:
      UserError: on all processes if `action` raises one; on the others it points to the main process.
    """
    result = failure = None
    if is_main_process():
        try:
            result = action()
        except UserError as error:
            failure = error
    if not all_agree(failure is None):
        raise failure or UserError("process 0 cannot begin, so no other process does; see its message")
    return result


def check_shared(directory: Path) -> None:
    """Raise a UserError on all processes if some do not see what the main process writes in the directory; it names them."""
    tokens = gather(secrets.randbits(31))
    if len(tokens) == 1:
        return
    mark, created = directory / f"{MARK}{tokens[0]:08x}", not directory.exists()
    written = True
    if is_main_process():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            mark.write_text("", encoding="utf-8")
        except OSError:
            written = False
    if not all_agree(written):
        raise UserError(f"output_dir {directory}: process 0 cannot write there")
    blind = [number for number, sees in enumerate(gather(appears(mark))) if not sees]
    if is_main_process():
        mark.unlink(missing_ok=True)
        if created and blind:
            with contextlib.suppress(OSError):
                directory.rmdir()
    if blind:
        raise UserError(
            f"output_dir {directory}: processes {', '.join(map(str, blind))} of {len(tokens)} do not see what process 0 "
            "writes there; give all of them one directory on a file system that they share"
        )


def appears(path: Path) -> bool:
    """Whether a file exists now or within PATIENCE; listing its folder makes network file systems look again."""
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if path.name in {x.name for x in path.parent.iterdir()}:
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.2)


def is_main_process() -> bool:
    """Whether this process writes the files of the run."""
    import jax

    return jax.process_index() == 0


def process_count() -> int:
    """The number of processes of the run."""
    import jax

    return jax.process_count()


def process_number() -> int:
    """The number of this process, from 0."""
    import jax

    return jax.process_index()


def gather(number: int) -> list[int]:
    """Return the numbers of all processes, each of at most 31 bits, in the order of the processes."""
    return [row[0] for row in gather_rows([number])]


def gather_rows(numbers: Sequence[int]) -> list[list[int]]:
    """Return the numbers of all processes, equally many of each, of at most 31 bits, in the order of the processes."""
    import jax

    if jax.process_count() == 1:
        return [list(numbers)]
    import numpy as np
    from jax.experimental import multihost_utils

    with PULSE.waiting():
        return multihost_utils.process_allgather(np.array(numbers, np.int32)).tolist()


def gather_texts(text: str, most: int = 1000) -> list[str]:
    """Return the texts of all processes, each cut after `most` bytes, in the order of the processes."""
    own = text.encode("utf-8", "replace")[:most]
    return [bytes(row).rstrip(b"\0").decode("utf-8", "ignore") for row in gather_rows(list(own.ljust(most, b"\0")))]


def all_agree(yes: bool) -> bool:
    """Whether `yes` is true on every process."""
    return all(gather(int(yes)))


def from_main(value: int) -> int:
    """Return the main process's number, of at most 31 bits, on every process."""
    return gather(value)[0]


def text_from_main(text: str) -> str:
    """Return the main process's text on every process."""
    return gather_texts(text, most=max(1, from_main(len(text.encode()))))[0]
