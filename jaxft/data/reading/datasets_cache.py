"""Verifies the Arrow files in the cache of `datasets` before they are used again."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxft.core import checksums, distributed


def load_verified(load: Callable[..., Any]) -> Any:
    """Returns `load()`, a `datasets.Dataset`, after comparing its cache files with their digests.

    If a file is damaged, `load(download_mode="force_redownload")` makes them again.
    """
    from datasets.exceptions import DatasetsError
    from pyarrow.lib import ArrowException

    try:
        rows = load()
    except DatasetsError:  # the data themselves are faulty
        raise
    except (OSError, ValueError, TypeError, KeyError, ArrowException):  # a file in the cache is damaged
        return load(download_mode="force_redownload")
    try:
        fault = _find_fault(rows)
    except OSError:  # the digests cannot be read or written, but `datasets` has just read the data
        return rows
    if fault is not None:
        if distributed.is_main_process():
            print(f"the cached data in {fault} and is made again", file=sys.stderr)
        del rows
        rows = load(download_mode="force_redownload")
        _find_fault(rows)
    return rows


def _find_fault(rows: Any) -> str | None:
    """What is wrong with the cache files of rows, or None; if no digests are stored yet, they are written."""
    files = [Path(file["filename"]) for file in rows.cache_files]
    if not files:
        return None
    digests = files[0].with_name(f"{hashlib.sha256(' '.join(path.name for path in files).encode()).hexdigest()}.sums")
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
        return f"{digests.parent} is damaged ({error})"
    changed = [name for name, digest in sums.items() if stored.get(name) != digest]
    return f"{digests.parent} is damaged ({changed[0]} has other content than was written)" if changed else None
