"""What the processes of a run agree on before it begins: that it may begin, and that they share its directory."""

import contextlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from jaxft.core import runtime
from jaxft.core.errors import UserError

T = TypeVar("T")
MARK = ".shared-"
PATIENCE = 5.0  # seconds in which a network file system shows what another host wrote


def by_main_process(action: Callable[[], T], otherwise: T) -> T:
    """What `action` gives on the main process, `otherwise` on the others; where it refuses, all do.

    Raises:
      UserError: the main process's own, and one on every other that points there.
    """
    result, refusal = otherwise, None
    if runtime.is_main_process():
        try:
            result = action()
        except UserError as error:
            refusal = error
    if not runtime.all_agree(refusal is None):
        raise refusal or UserError("process 0 refuses to begin, so no other process does; it says why")
    return result


def check_shared(directory: Path) -> None:
    """Refuse processes that do not see one another's files in the run directory; a single process shares it with nobody.

    The main process writes a small file there, and the others look for it.

    Raises:
      UserError: on all of them, naming those that do not see it.
    """
    token = runtime.gather(secrets.randbits(31))
    if len(token) == 1:
        return
    mark, made = directory / f"{MARK}{token[0]:08x}", not directory.exists()
    written = True
    if runtime.is_main_process():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            mark.write_text("", encoding="utf-8")
        except OSError:
            written = False
    if not runtime.all_agree(written):
        raise UserError(f"output_dir {directory}: process 0 cannot write there")
    blind = [number for number, sees in enumerate(runtime.gather(_appears(mark))) if not sees]
    if runtime.is_main_process():
        mark.unlink(missing_ok=True)
        if made and blind:
            with contextlib.suppress(OSError):
                directory.rmdir()
    if blind:
        raise UserError(
            f"output_dir {directory}: processes {', '.join(map(str, blind))} of {len(token)} do not see what process 0 "
            "writes there; give all of them one directory on a file system that they share"
        )


def _appears(path: Path) -> bool:
    """Whether a file is there, or soon is; to list its folder makes network file systems look again."""
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if path.name in {x.name for x in path.parent.iterdir()}:
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
