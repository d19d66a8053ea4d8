"""What `datasets` keeps of the files that it has read (Arrow files in its cache), verified before it is used again."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxft.core import checksums, distributed


def intact(load: Callable[..., Any]) -> Any:
    """A `datasets.Dataset` whose files in the cache are what they were when they were made; else they are made again.

    Args:
      load: gives the rows; with `download_mode` it makes the files again.
    """
    from datasets.exceptions import DatasetsError
    from pyarrow.lib import ArrowException

    try:
        rows = load()
    except DatasetsError:  # of the data themselves
        raise
    except (OSError, ValueError, TypeError, KeyError, ArrowException):  # of a torn file in the cache
        return load(download_mode="force_redownload")
    files = [Path(file["filename"]) for file in rows.cache_files]
    if not files:
        return rows
    record = files[0].with_name(f"{hashlib.sha256(' '.join(path.name for path in files).encode()).hexdigest()}.sums")
    try:
        wrong = _wrong(files, record)
    except OSError:  # a cache that cannot be read is its owner's business, and `datasets` has just read it
        return rows
    if wrong is None:
        return rows
    if distributed.is_main_process():
        print(f"what is kept of the data in {record.parent} is damaged ({wrong}) and is made again", file=sys.stderr)
    del rows
    rows = load(download_mode="force_redownload")
    _wrong([Path(file["filename"]) for file in rows.cache_files], record)
    return rows


def _wrong(files: list[Path], record: Path) -> str | None:
    """What is wrong with the files; without a record, which `datasets` would not keep over anew, it is written."""
    about = [path for path in [record.with_name("dataset_info.json")] if path.is_file()]  # names and types of the columns
    sums = {path.name: checksums.of_file(path) for path in [*files, *about]}
    try:
        found = checksums.read_sealed(record)
    except FileNotFoundError:
        # `datasets` moves a finished folder into its place: what is there without a record is whole.
        checksums.write_sealed(record, sums)
        return None
    except checksums.Damaged as error:
        record.unlink()
        return str(error)
    changed = [name for name, digest in sums.items() if found.get(name) != digest]
    return f"{changed[0]} has other content than was written" if changed else None
