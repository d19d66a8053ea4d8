"""The local copy of a run at a URL: where it is, whose it is, and what is fetched before the run goes on.

The run works in the copy. `session.json`, at the URL and in the copy, names the last start that wrote there: if both name
the same, the copy is at least as new as the URL, and the run goes on with it. Otherwise the URL decides, and the copy is
made again.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.core import checksums, lock
from jaxft.core.errors import UserError, show_as, some
from jaxft.core.paths import cache_dir, is_url, plain
from jaxft.core.remote import Info, download, file_system, listing, local, reading
from jaxft.run.trained_models import CONFIG, MODEL
from jaxft.training import integrity
from jaxft.training.integrity import FOLDER

COPIES = "runs"
SESSION = "session.json"


class Place(NamedTuple):
    """A run at a URL: the file system of fsspec, the path in it, the URL, and the local copy."""

    fs: Any
    root: str
    url: str
    directory: Path


def local_directory(url: str) -> Path:
    """The directory of the local copy of a run; messages call it by the URL."""
    url = url.rstrip("/")
    name = url.partition("://")[2].rpartition("/")[2] or "run"
    directory = cache_dir() / COPIES / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    for path in {str(directory), str(directory.absolute()), str(directory.resolve())}:
        show_as(path, url)
    return directory


def where(directory: Path) -> str:
    """Where a local copy is, in words that do not become the URL."""
    return f"{directory.parent}, in the folder {directory.name}"


def fetch(place: Place, say: Callable[[str], None]) -> None:
    """Make the local copy what a run needs to go on; without a run at the URL there is no copy, either.

    Raises:
      UserError: if the URL holds other files than those of a run, or cannot be read.
    """
    with reading(place.url):
        place.fs.invalidate_cache()
        files = listing(place.fs, place.root, place.url) if place.fs.exists(place.root) else {}
        same = _session(place, files) == _session_here(place.directory)
    if CONFIG not in files:
        others = [name for name in files if name != lock.FILE]
        if others and SESSION not in files:
            raise UserError(
                f"output_dir {place.url}: holds files ({some(others)}) but no {CONFIG} of a run; choose an empty or new one"
            )
        _remove(place.directory)
    elif not same or not (place.directory / CONFIG).is_file():
        _remove(place.directory)
        with reading(place.url):
            _download(place, [x for x in files if _is_needed(x)], files)
            _fetch_checkpoints(place, files, say)


def _session(place: Place, files: Mapping[str, Info]) -> str | None:
    try:
        return json.loads(place.fs.cat_file(f"{place.root}/{SESSION}"))["session"] if SESSION in files else None
    except (ValueError, KeyError, TypeError):
        return None


def _session_here(directory: Path) -> str:
    try:
        return json.loads((directory / SESSION).read_bytes())["session"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _remove(directory: Path) -> None:
    """Remove a copy that is out of date, unless a process of this machine works there."""
    if directory.exists():
        lock.acquire(directory).close()
        shutil.rmtree(directory)


def is_hidden(name: str) -> bool:
    """Whether a file is a temporary one, or a lock: these are neither uploaded nor fetched."""
    return any(part.startswith(".") for part in name.split("/")) or name.endswith(".tmp") or lock.is_lock_file(name)


def _is_needed(name: str) -> bool:
    return not is_hidden(name) and name.partition("/")[0] not in (FOLDER, MODEL) and name != SESSION


def with_checkpoints(path: str) -> str:
    """RUN_DIR as a local path: of a run at a URL, a copy with all checkpoints that are whole."""
    path = plain(path)
    if not is_url(path):
        return path
    fs, root = file_system(path)
    with reading(path):
        fs.invalidate_cache()
        files = listing(fs, root.rstrip("/"), path)
    torn = checkpoint_files(files).keys() - set(whole_checkpoints(files))
    return local(path, skip=(".*", "*.lock", f"{MODEL}/*", *(f"{FOLDER}/{step}/*" for step in sorted(torn))))


def checkpoint_files(files: Mapping[str, Info]) -> dict[int, list[str]]:
    """The files of each checkpoint at a URL, whole or not."""
    found: dict[int, list[str]] = {}
    for name in files:
        parts = name.split("/")
        if parts[0] == FOLDER and len(parts) > 2 and parts[1].isdigit():
            found.setdefault(int(parts[1]), []).append(name)
    return found


def whole_checkpoints(files: Mapping[str, Info]) -> list[int]:
    """The steps of the checkpoints at a URL whose manifest, which is uploaded last, is there."""
    return sorted(step for step in checkpoint_files(files) if f"{FOLDER}/{step}/{checksums.MANIFEST}" in files)


def _fetch_checkpoints(place: Place, files: Mapping[str, Info], say: Callable[[str], None]) -> None:
    """Fetch the newest whole checkpoint and the best one; all whole ones, if one of the two is damaged."""
    of_step, steps = checkpoint_files(files), whole_checkpoints(files)
    for step in sorted(of_step.keys() - set(steps)):
        say(f"the checkpoint of step {step} at {place.url} was not uploaded to its end: it is passed over")
    if not steps:
        return
    _download(place, of_step[steps[-1]], files)
    needed = {steps[-1]}
    best = integrity.best_step(place.directory, steps[-1])
    if best in steps and best not in needed:
        _download(place, of_step[best], files)
        needed.add(best)
    if any(integrity.verify(place.directory, step).damage for step in needed):
        _download(place, [name for step in steps if step not in needed for name in of_step[step]], files)


def _download(place: Place, names: list[str], files: Mapping[str, Info]) -> None:
    if not names:
        return
    # The config comes last: a copy without it is made again.
    names = sorted(names, key=lambda name: name == CONFIG)
    download(place.fs, {str(files[name]["name"]): place.directory / name for name in names})
    for name in names:
        size, expected = (place.directory / name).stat().st_size, files[name].get("size")
        if expected is not None and size != expected:
            (place.directory / name).unlink()
            raise UserError(f"{place.url}/{name}: {size:,} bytes arrived instead of {expected:,}; start again")
