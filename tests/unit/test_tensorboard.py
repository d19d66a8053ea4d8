"""TensorBoard's files have every number of a run once, whatever happens to the disk."""

import errno
import struct
from pathlib import Path

import pytest
from tensorboardX import record_writer
from tensorboardX.proto.event_pb2 import Event, SessionLog

from tests.support import tracked

Scalars = list[tuple[int, str, float]]


def expected(*rows: dict) -> Scalars:
    """(step, tag, value) of the numbers of some rows."""
    found = []
    for row in rows:
        prefix = "final/" if row.get("final") else ""
        numbers = {name: x for name, x in row.items() if isinstance(x, int | float) and not isinstance(x, bool)}
        found += [(row["step"], f"{prefix}{name}", pytest.approx(x)) for name, x in numbers.items() if name != "step"]
    return found


def shown(directory: Path) -> Scalars:
    """What TensorBoard shows of a run: a file drops what earlier ones have from its first step on."""
    found: Scalars = []
    for path in sorted((directory / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("Q", data[:8])
            assert struct.unpack("I", data[8:12])[0] == record_writer.masked_crc32c(data[:8])
            event, data = Event.FromString(data[12 : 12 + size]), data[16 + size :]
            if event.session_log.status == SessionLog.START:
                found = [x for x in found if x[0] < event.step]
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return found


def test_a_resumed_run_has_every_row_once_and_the_final_scores(tmp_path):
    said = tracked.stopped_and_resumed(tmp_path, "tensorboard")
    assert said == []
    assert shown(tmp_path) == expected(*tracked.rows_after(0, 6), tracked.FINAL)


class FullDisk:
    """A file that takes 10 bytes at a time, and none while the disk is full."""

    full = False

    def __init__(self, file) -> None:
        self._file = file

    def write(self, content: bytes) -> int:
        if FullDisk.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(content[:10])

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_rows_of_a_full_disk_follow_later(tmp_path, monkeypatch):
    monkeypatch.setattr(FullDisk, "full", False)
    session = tracked.Session(tmp_path, 0, "tensorboard")
    file = session.trackers[0]._file
    file._file = FullDisk(file._file)
    session.log(*tracked.rows_after(0, 2))
    monkeypatch.setattr(FullDisk, "full", True)
    session.log(*tracked.rows_after(2, 5))
    session.trackers[0].on_checkpoint(None)
    monkeypatch.setattr(FullDisk, "full", False)
    (line,) = session.log(*tracked.rows_after(5, 6), tracked.FINAL).end()
    assert line.endswith("could not be written: No space left on device")
    assert shown(tmp_path) == expected(*tracked.rows_after(0, 6), tracked.FINAL)
