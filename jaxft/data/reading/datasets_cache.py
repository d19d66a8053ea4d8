"""Verifies the Arrow files in the cache of `datasets` before they are used again."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxft.core import checksums, distributed


def load_verified(load: Callable[..., Any]) -> Any:
    """Returns a `datasets.Dataset` after comparing its cache files with their digests; damaged files are made again.

    Args:
      load: returns the rows; given `download_mode`, it makes the cache files again.
    """
    from datasets.exceptions import DatasetsError
    from pyarrow.lib import ArrowException

    try:
        rows = load()
    except DatasetsError:  # the data themselves are faulty
        raise
    except (OSError, ValueError, TypeError, KeyError, ArrowException):  # a file in the cache is damaged
        return load(download_mode="force_redownload")
    files = [Path(file["filename"]) for file in rows.cache_files]
    if not files:
        return rows
    digests = files[0].with_name(f"{hashlib.sha256(' '.join(path.name for path in files).encode()).hexdigest()}.sums")
    try:
        fault = _find_fault(files, digests)
    except OSError:  # the digests cannot be read or written, but `datasets` has just read the data
        return rows
    if fault is None:
        return rows
    if distributed.is_main_process():
        print(f"the cached data in {digests.parent} is damaged ({fault}) and is made again", file=sys.stderr)
    del rows
    rows = load(download_mode="force_redownload")
    _find_fault([Path(file["filename"]) for file in rows.cache_files], digests)
    return rows


def _find_fault(files: list[Path], digests: Path) -> str | None:
    """What is wrong with the files, or None; if no digests are stored yet, they are written."""
    info = [path for path in [digests.with_name("dataset_info.json")] if path.is_file()]  # names and types of the columns
    sums = {path.name: checksums.of_file(path) for path in [*files, *info]}
    try:
        stored = checksums.read_sealed(digests)
    except FileNotFoundError:
        # `datasets` moves a folder into place when it is finished, so files without digests are complete.
        checksums.write_sealed(digests, sums)
        return None
    except checksums.Damaged as error:
        digests.unlink()
        return str(error)
    changed = [name for name, digest in sums.items() if stored.get(name) != digest]
    return f"{changed[0]} has other content than was written" if changed else None
