"""Which checkpoints of a run directory are what they were when they were written, and where a run can go on from.

A checkpoint's record of its files (`checksums.record`) is made before orbax gives the folder its name, so a checkpoint that
was written with one never lacks it: a kill leaves both or none. Where it is missing all the same, the checkpoint's progress
says that it had one, and it counts as damaged; a checkpoint without that word is from before there were records.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.core import checksums

FOLDER = "checkpoints"
FROZEN = "frozen"
RECORDED = "checksums"  # in a checkpoint's progress: it has a record of its files
# Into these orbax writes the time at which it gives the folder its name, when the record is made. It restores without them.
TIMES = ("_CHECKPOINT_METADATA", "commit_success.txt")


class Found(NamedTuple):
    """What became of a checkpoint, or of the frozen parameters.

    Attributes:
      wrong: what is damaged, as `folder/file (how)`; None when nothing is known to be.
      record: of its files; None where there is none.
    """

    wrong: str | None
    record: dict[str, Any] | None = None

    @property
    def content(self) -> str | None:
        """The digest of the frozen parameters that the record names."""
        return self.record.get("frozen") if self.record else None


def steps(directory: Path) -> list[int]:
    """Steps of the checkpoints that a run directory holds, whole or damaged."""
    folder = directory / FOLDER
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def look(directory: Path, step: int) -> Found:
    """Read all files of a checkpoint."""
    folder = directory / FOLDER / str(step)
    if not folder.is_dir():
        return Found(f"{FOLDER}/{step} is not there")
    found = _verified(folder, f"{FOLDER}/{step}")
    if found.record is None and found.wrong is None:
        progress = _progress(folder)
        if progress is None:
            return Found(f"{FOLDER}/{step}/progress/metadata is torn")
        if progress.get(RECORDED):
            return Found(f"{FOLDER}/{step}/{checksums.MANIFEST} is not there")
    return found


def record_of(directory: Path, step: int) -> Found:
    """The record of a checkpoint that `look` has found whole."""
    try:
        return Found(None, checksums.read_sealed(directory / FOLDER / str(step) / checksums.MANIFEST))
    except FileNotFoundError:
        return Found(None)


def look_at_frozen(directory: Path, content: str | None) -> Found:
    """Read all files of the frozen parameters.

    Args:
      directory: of the run.
      content: their digest, where the checkpoint to be restored names it.
    """
    if not (directory / FROZEN).is_dir():
        return Found(f"{FROZEN}/ is not there" if content else None)
    found = _verified(directory / FROZEN, FROZEN)
    if content and not found.wrong and found.content != content:
        return Found(f"{FROZEN}/{checksums.MANIFEST} " + ("is another run's" if found.record else "is not there"))
    return found


def newest(directory: Path, *, best: bool, say: Callable[[str], None]) -> int | None:
    """The newest checkpoint that a run can go on from; None where it begins anew.

    Steps are computed again bit for bit, so to go on from an earlier one costs time and changes nothing.

    Args:
      directory: of the run.
      best: whether the best step's checkpoint is needed in the end.
      say: for people: a line for each that is passed over.
    """
    passed = False
    for step in reversed(steps(directory)):
        found = look(directory, step)
        wrong = found.wrong
        if wrong is None and best and (chosen := best_step(directory, step)) not in (None, step):
            # Of an earlier step the best may be gone because a later one, which comes again, was better.
            kept = (directory / FOLDER / str(chosen)).exists()
            wrong = look(directory, chosen).wrong if kept or not passed else None
        if wrong is None:
            if found.record is None:
                say(f"the checkpoint of step {step} was written without checksums: it is not verified")
            return step
        say(f"the checkpoint of step {step} is passed over: {wrong}")
        passed = True
    if passed:
        say("no checkpoint is left: the run begins again with step 0")
    return None


def best_step(directory: Path, step: int) -> int | None:
    """The best step of a run at one of its checkpoints."""
    return (_progress(directory / FOLDER / str(step)) or {}).get("best_step")


def _verified(folder: Path, name: str) -> Found:
    try:
        return Found(None, checksums.verify(folder))
    except checksums.Damaged as error:
        return Found(f"{name}/{error}")


def _progress(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / "progress" / "metadata").read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
