"""Reads what wandb writes offline: a file of protobuf records in the format of LevelDB's logs, after a header of 7 bytes."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEADER, BLOCK = 7, 32 * 1024
WHOLE, FIRST, LAST = 1, 2, 4  # types of the chunks of a record


@dataclass
class WandbRun:
    """What the files of a run hold, in order: its ids and names, options, rows of history, summary and exit codes."""

    ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    projects: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)


def read_runs(directory: Path) -> WandbRun:
    """All that the offline runs below a directory hold, the oldest first."""
    from wandb.proto import wandb_internal_pb2

    found = WandbRun()
    for path in sorted(directory.glob("wandb/offline-run-*/run-*.wandb"), key=lambda x: x.stat().st_mtime):
        for content in _records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                found.ids.append(record.run.run_id)
                found.names.append(record.run.display_name)
                found.projects.append(record.run.project)
                found.config |= _values(record.run.config.update)
            elif kind == "history":
                row = _values(record.history.item)
                found.rows.append({name: x for name, x in row.items() if not name.startswith("_")})
            elif kind == "summary":
                found.summary |= _values(record.summary.update)
            elif kind == "exit":
                found.exits.append(record.exit.exit_code)
    return found


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(content: bytes) -> Iterator[bytes]:
    at, record = HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:  # the rest of a block is too short for a chunk
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + HEADER])
        record = (b"" if kind in (WHOLE, FIRST) else record) + content[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (WHOLE, LAST):
            yield record
