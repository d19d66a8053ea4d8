"""Which checkpoints of a run directory are intact, and from which one a run can be resumed.

The digests of a checkpoint's files (`checksums.write_manifest`) are written before orbax gives the folder its name, so a
killed process leaves either a checkpoint with them or none. Its progress says so: a checkpoint whose progress has the key
RECORDED and whose digests are missing is damaged, and one without that key was written by an older version.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.core import checksums, distributed
from jaxft.core.errors import UserError
from jaxft.run.claim import Claim
from jaxft.run.setup import Run

FOLDER = "checkpoints"
FROZEN = "frozen"
RECORDED = "checksums"  # in a checkpoint's progress: its files have recorded digests
# Orbax writes the time at which it renames the folder into these files, after the digests; it restores without them.
TIMES = ("_CHECKPOINT_METADATA", "commit_success.txt")


class Verified(NamedTuple):
    """What reading a checkpoint or the frozen parameters has found."""

    damage: str | None  # names the file and what is wrong with it
    record: dict[str, Any] | None = None  # the manifest with the digests of the files, if there is one

    @property
    def frozen(self) -> str | None:
        """The digest of the frozen parameters in the manifest."""
        return self.record.get("frozen") if self.record else None


def steps(directory: Path) -> list[int]:
    """Steps of the checkpoints in a run directory, intact or damaged."""
    return sorted(int(path.name) for path in (directory / FOLDER).glob("*") if path.is_dir() and path.name.isdigit())


def verify(directory: Path, step: int) -> Verified:
    """Read and verify all files of a checkpoint."""
    folder = directory / FOLDER / str(step)
    if not folder.is_dir():
        return Verified(f"{FOLDER}/{step} is not there")
    found = _verified(folder, f"{FOLDER}/{step}")
    if found.record is None and found.damage is None:
        progress = _progress(folder)
        if progress is None:
            return Verified(f"{FOLDER}/{step}/progress/metadata is torn")
        if progress.get(RECORDED):
            return Verified(f"{FOLDER}/{step}/{checksums.MANIFEST} is not there")
    return found


def frozen_digest(directory: Path, step: int) -> str | None:
    """The digest of the frozen parameters to which an intact checkpoint belongs."""
    try:
        return checksums.read_sealed(directory / FOLDER / str(step) / checksums.MANIFEST).get("frozen")
    except FileNotFoundError:
        return None


def verify_frozen(directory: Path, digest: str | None) -> Verified:
    """Read and verify all files of the frozen parameters, of which the checkpoint to be restored names the digest."""
    if not (directory / FROZEN).is_dir():
        return Verified(f"{FROZEN}/ is not there" if digest else None)
    found = _verified(directory / FROZEN, FROZEN)
    if digest and not found.damage and found.frozen != digest:
        return Verified(f"{FROZEN}/{checksums.MANIFEST} " + ("is another run's" if found.record else "is not there"))
    return found


def newest_usable(directory: Path, *, best: bool, say: Callable[[str], None]) -> int | None:
    """The newest checkpoint from which a run can be resumed; None if there is no checkpoint.

    Steps are computed again bit for bit, so resuming from an earlier checkpoint takes time and changes nothing. With `best`,
    the checkpoint of the best step will be needed at the end. Each checkpoint that is passed over is reported.

    Raises:
      UserError: if there are checkpoints, and none is whole: whether to lose their steps is for the user to decide.
    """
    bests: list[int | None] = []  # of the checkpoints that are passed over
    for step in reversed(steps(directory)):
        found = verify(directory, step)
        damage = found.damage
        if damage is None and best and (chosen := best_step(directory, step)) not in (None, step):
            # It may have been deleted for a better one of a later checkpoint, which comes again.
            replaced = any(best != chosen for best in bests) and not (directory / FOLDER / str(chosen)).exists()
            damage = None if replaced else verify(directory, chosen).damage
        if damage is None:
            if found.record is None:
                say(f"the checkpoint of step {step} was written without checksums: it is not verified")
            return step
        say(f"the checkpoint of step {step} is passed over: {damage}")
        bests.append(best_step(directory, step))
    if bests:
        raise UserError(
            f"{directory}: none of its checkpoints is whole: put back a copy of {FOLDER}/, or delete {directory / FOLDER} "
            "to begin again with step 0"
        )
    return None


def resumed_step(run: Run, directory: Path, claim: Claim | None) -> int | None:
    """The step from which a run is resumed, as the main process finds it; None if it begins.

    Raises:
      UserError: as in `newest_usable`, or if the model's weights are not those with which the run began.
    """

    def find() -> int | None:
        say, best = partial(print, file=sys.stderr, flush=True), run.config.checkpoint.select == "best"
        newest = newest_usable(directory, best=best, say=say)
        if claim:
            claim.check_weights(newest, adapted=run.model.adapted is not None)
        return newest

    return distributed.from_main(distributed.by_main_process(find) or 0) or None


def best_step(directory: Path, step: int) -> int | None:
    """The best step of a run at one of its checkpoints."""
    return (_progress(directory / FOLDER / str(step)) or {}).get("best_step")


def _verified(folder: Path, name: str) -> Verified:
    try:
        return Verified(None, checksums.verify(folder))
    except checksums.Damaged as error:
        return Verified(f"{name}/{error}")


def _progress(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / "progress" / "metadata").read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
