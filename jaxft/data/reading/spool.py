"""Concatenates Arrow tables: large ones are spooled to an unlinked temporary file, and columns get a common type."""

import mmap
import tempfile
import weakref
from collections.abc import Iterable
from typing import Any

from jaxft.core.paths import cache_dir
from jaxft.data.reading.class_labels import with_declared_labels
from jaxft.data.reading.json_rows import Request, as_array

IN_MEMORY = 8 << 20  # bytes; more than that is written to disk and mapped, and takes no memory once it is tokenised
_MAPPED: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def concatenate(tables: Iterable[Any], request: Request, where: str) -> Any:
    """Concatenates the rows of all tables, `where` in messages; None if there are no tables.

    Their columns may differ in type (mixed numbers and texts become text), or be absent (null).
    """
    import pyarrow as pa

    parts = spooled(tables)
    if not parts:
        return None
    parts, metadata = with_declared_labels(parts, where)
    try:
        table = pa.concat_tables([part.replace_schema_metadata() for part in parts], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        columns = {}
        for name in dict.fromkeys(name for part in parts for name in part.column_names):
            values = [x for t in parts for x in (t[name].to_pylist() if name in t.column_names else [None] * len(t))]
            columns[name] = as_array(values, name, request, where, 0)
        table = pa.table(columns)
    return table.replace_schema_metadata(metadata)


def unload() -> None:
    """Release the pages of memory-mapped rows; they are loaded again when they are read."""
    for mapping in list(_MAPPED):
        if hasattr(mapping, "madvise"):
            mapping.madvise(mmap.MADV_DONTNEED)


def spooled(tables: Iterable[Any]) -> list[Any]:
    """The same tables; if they exceed IN_MEMORY bytes, all are memory-mapped from a temporary file."""
    import pyarrow as pa

    in_memory: list[Any] = []
    size, iterator = 0, iter(tables)
    for table in iterator:
        in_memory.append(table)
        size += table.nbytes
        if size > IN_MEMORY:
            break
    else:
        return in_memory
    try:
        root = cache_dir()
        root.mkdir(parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile(dir=root, prefix="rows.")  # noqa: SIM115 (deleted with the process)
    except OSError:  # there is no space: the tables stay in memory
        return [*in_memory, *iterator]
    with file:
        offsets = []
        for more in (in_memory, iterator):
            for table in more:
                offsets.append(file.tell())
                with pa.ipc.new_stream(file, table.schema) as writer:
                    writer.write_table(table)
            in_memory.clear()
        file.flush()
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _MAPPED.add(mapping)
        mapped = pa.BufferReader(pa.py_buffer(mapping))
    spooled = []
    for offset in offsets:
        mapped.seek(offset)
        spooled.append(pa.ipc.open_stream(mapped).read_all())
    return spooled
