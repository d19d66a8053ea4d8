"""Many Arrow tables as one: large ones lie in a file without a name, and their columns get one type."""

import mmap
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from jaxft.core.cache_dir import cache_dir
from jaxft.data.reading.class_labels import with_declared_labels
from jaxft.data.reading.json_rows import as_array

IN_MEMORY = 64 << 20  # bytes; more than that is written to disk and mapped
_MAPPED: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def joined(tables: Iterable[Any], *, odd_is_null: bool, kinds: Mapping[str, type], where: str) -> Any:
    """One table of all rows, or None of no table.

    Args:
      tables: whose columns may differ in type (numbers among texts are text then), or be absent (null).
      kinds: the `kind` of columns by their names, as in `json_rows.as_array`.
      odd_is_null, where: as there.
    """
    import pyarrow as pa

    found = _spooled(tables)
    if not found:
        return None
    found, metadata = with_declared_labels(found, where)
    try:
        whole = pa.concat_tables([table.replace_schema_metadata() for table in found], promote_options="permissive")
        return whole.replace_schema_metadata(metadata)
    except (pa.ArrowTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        names = list(dict.fromkeys(name for table in found for name in table.column_names))
        columns = {}
        for name in names:
            values = [x for t in found for x in (t[name].to_pylist() if name in t.column_names else [None] * len(t))]
            kind = kinds.get(name)
            columns[name] = as_array(values, f"{where}: row", 0, name, odd_is_null=odd_is_null, kind=kind)
        return pa.table(columns).replace_schema_metadata(metadata)


def unload() -> None:
    """Take the rows that are mapped out of the process's memory; they come back where they are read again."""
    for mapping in list(_MAPPED):
        if hasattr(mapping, "madvise"):
            mapping.madvise(mmap.MADV_DONTNEED)


def _spooled(tables: Iterable[Any]) -> list[Any]:
    """The same tables, of which no more than IN_MEMORY bytes are in memory."""
    import pyarrow as pa

    kept: list[Any] = []
    size = 0
    iterator = iter(tables)
    for table in iterator:
        kept.append(table)
        size += table.nbytes
        if size > IN_MEMORY:
            break
    else:
        return kept
    try:
        root = cache_dir()
        root.mkdir(parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile(dir=root, prefix="rows.")  # noqa: SIM115 (it goes with the process)
    except OSError:  # no place: it stays in memory
        return [*kept, *iterator]
    with file:
        places = []
        for more in (kept, iterator):
            for table in more:
                places.append(file.tell())
                with pa.ipc.new_stream(file, table.schema) as writer:
                    writer.write_table(table)
            kept.clear()
        file.flush()
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _MAPPED.add(mapping)
        mapped = pa.BufferReader(pa.py_buffer(mapping))
    found = []
    for place in places:
        mapped.seek(place)
        found.append(pa.ipc.open_stream(mapped).read_all())
    return found
