"""Arrays that are written as they come: they go on after a kill, and what has changed is never read."""

import random
import resource

import numpy as np
import pytest

from jaxft.core.checksums import Damaged
from jaxft.teacher_cache import store
from jaxft.teacher_cache.store import Array, FolderWriter, Found, TemporaryWriter, look

ARRAYS = {"logits": Array((20, 3), np.dtype(np.float32)), "logits.labels": Array((20,), np.dtype(np.int16))}
ABOUT = {"of": "a teacher"}
VALUES = {
    "logits": np.arange(60, dtype=np.float32).reshape(20, 3),
    "logits.labels": np.arange(20, dtype=np.int16),
}


@pytest.fixture(autouse=True)
def every_part_is_committed(monkeypatch):
    monkeypatch.setattr(store, "SECONDS", 0.0)


def write(folder, found=None, stop=20, by=4):
    writer = FolderWriter(folder, ARRAYS, ABOUT, found or Found())
    for begin in range(writer.done, stop, by):
        writer.append({name: x[begin : begin + by] for name, x in VALUES.items()}, begin + by)
    values = writer.finish() if stop == 20 else None
    writer.close()
    return values


def assert_whole(folder):
    assert look(folder, ARRAYS).done == 20
    assert store.looks_complete(folder, 20)
    for name, x in store.mapped(folder, ARRAYS).items():
        np.testing.assert_array_equal(x, VALUES[name])


def test_what_is_written_is_read(tmp_path):
    assert look(tmp_path / "absent", ARRAYS) == Found()
    values = write(tmp_path)
    assert values is not None
    np.testing.assert_array_equal(values["logits"], VALUES["logits"])
    assert_whole(tmp_path)
    assert look(tmp_path, ARRAYS).about == ABOUT


def test_values_behind_the_last_line_are_written_again(tmp_path):
    """A kill may leave bytes without a line, and a torn line."""
    write(tmp_path, stop=8)
    assert not store.looks_complete(tmp_path, 20)
    for name in (*map(store.file_name, ARRAYS), store.PROGRESS):
        with open(tmp_path / name, "ab") as file:
            file.write(b'{"torn')
    found = look(tmp_path, ARRAYS)
    assert (found.done, found.sizes) == (8, {"logits": 96, "logits.labels": 16})
    write(tmp_path, found)
    assert_whole(tmp_path)


def test_an_earlier_end_of_a_last_line_loses_only_that_part(tmp_path):
    write(tmp_path, stop=12)
    progress = tmp_path / store.PROGRESS
    progress.write_bytes(progress.read_bytes()[:-5])
    assert look(tmp_path, ARRAYS).done == 8


@pytest.mark.parametrize("name", [*map(store.file_name, ARRAYS), store.PROGRESS, store.ABOUT])
def test_a_flipped_bit_in_any_file_is_found(tmp_path, name):
    write(tmp_path)
    whole, rng = (tmp_path / name).read_bytes(), random.Random(0)
    for _ in range(40):
        changed = bytearray(whole)
        changed[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        (tmp_path / name).write_bytes(bytes(changed))
        if name == store.PROGRESS and look_done(tmp_path) == 16:
            continue  # the last newline is gone: the last part is written again
        if name == store.ABOUT and look_about(tmp_path) == ABOUT:
            continue  # another space between two entries
        with pytest.raises(Damaged):
            look(tmp_path, ARRAYS)


def look_done(folder):
    try:
        return look(folder, ARRAYS).done
    except Damaged:
        return None


def look_about(folder):
    try:
        return store.read_about(folder)
    except Damaged:
        return None


@pytest.mark.parametrize("name", [*map(store.file_name, ARRAYS), store.PROGRESS])
def test_a_shorter_or_absent_file_is_found(tmp_path, name):
    write(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-9])
    if name == store.PROGRESS:
        assert look(tmp_path, ARRAYS).done == 16
        return
    with pytest.raises(Damaged, match=r"other content"):
        look(tmp_path, ARRAYS)
    path.unlink()
    with pytest.raises(Damaged, match="is not there"):
        look(tmp_path, ARRAYS)


@pytest.mark.parametrize("temporary", [False, True])
def test_a_disk_that_fills_fails_once(tmp_path, temporary):
    """What is still to be written cannot be written at the end, either; that must not hide the error that tells of it."""
    arrays = {"logits": Array((2000,), np.dtype(np.float32))}

    def write_all():
        writer.append({"logits": np.zeros(2000, np.float32)}, 2000)
        writer.finish()

    writer = TemporaryWriter(arrays) if temporary else FolderWriter(tmp_path, arrays, ABOUT, Found())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))  # for the size of one file, which fails in the same way
    try:
        with pytest.raises(OSError, match="File too large"):
            write_all()
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_who_has_mapped_the_files_goes_on_reading_them_when_they_are_removed(tmp_path):
    values = write(tmp_path)
    assert values is not None
    store.clear(tmp_path, ARRAYS)
    assert not list(tmp_path.iterdir())
    write(tmp_path, stop=4)
    np.testing.assert_array_equal(values["logits"], VALUES["logits"])


def test_unnamed_files_hold_the_same(tmp_path):
    writer = TemporaryWriter(ARRAYS)
    writer.append(VALUES, 20)
    values = writer.finish()
    writer.close()
    for name, x in VALUES.items():
        np.testing.assert_array_equal(values[name], x)
