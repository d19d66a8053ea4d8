"""One run per URL: who holds the lock there, when it may be taken over, and what a run does that has lost it."""

import json
import time

import pytest

from jaxft.core import lock, remote_lock
from jaxft.core.errors import UserError
from tests.support.stand_in import StandIn, stand_in, url

ELSEWHERE = {**lock.EMPTY, "host": "another-host", "pid": 7, "token": "theirs"}


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(remote_lock, "BEAT", 0.02)
    monkeypatch.setattr(remote_lock, "STALE", 0.3)
    monkeypatch.setattr(remote_lock, "LOOK", 0.02)


@pytest.fixture
def faults():
    return stand_in()


def acquire(folder, said=None):
    return remote_lock.acquire(StandIn(), str(folder), url(folder), (said if said is not None else []).append)


def write(folder, **changes) -> None:
    (folder / lock.FILE).write_text(json.dumps({**ELSEWHERE, "time": time.time(), **changes}))


def wait_for(happens) -> None:
    end = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_lock_is_exclusive_renewed_and_released(faults, tmp_path):
    held = acquire(tmp_path / "new/run")
    with pytest.raises(lock.Held, match=r"output_dir stand://.*run: another run is using it: process \d+ on"):
        acquire(tmp_path / "new/run")
    first = (tmp_path / "new/run" / lock.FILE).read_text()
    wait_for(lambda: (tmp_path / "new/run" / lock.FILE).read_text() not in ("", first))
    held.check()
    held.close()
    assert not (tmp_path / "new/run" / lock.FILE).exists()


def test_an_owner_on_this_machine_that_has_ended_is_succeeded_at_once(faults, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_lock, "STALE", 60.0)
    write(tmp_path, **{**lock.identity(), "start": "1", "token": "dead"})
    said = []
    acquire(tmp_path, said).close()
    assert "has ended without releasing it" in said[0]


def test_an_owner_elsewhere_is_watched(faults, tmp_path, monkeypatch):
    write(tmp_path)
    said = []
    begin = time.monotonic()
    acquire(tmp_path, said).close()
    assert time.monotonic() - begin > 0.25
    assert "is process 7 on another-host's; waiting up to" in said[0]
    write(tmp_path)
    monkeypatch.setattr(remote_lock.time, "sleep", lambda seconds: write(tmp_path))  # it lives
    with pytest.raises(lock.Held, match="process 7 on another-host"):
        acquire(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({**ELSEWHERE, "time": 1.0})])
def test_a_torn_or_very_old_lock_is_taken_over(faults, tmp_path, content):
    (tmp_path / lock.FILE).write_text(content)
    acquire(tmp_path).close()


def test_a_server_that_lets_two_create_the_lock_gives_it_to_one(faults, tmp_path, monkeypatch):
    """The other has overwritten it before this one looks."""
    plain = StandIn.pipe_file
    monkeypatch.setattr(remote_lock, "STALE", 0.05)

    def both(self, path, value, mode="overwrite", **more):
        plain(self, path, value, mode)
        monkeypatch.setattr(StandIn, "pipe_file", plain)
        write(tmp_path)

    monkeypatch.setattr(StandIn, "pipe_file", both)
    monkeypatch.setattr(remote_lock.time, "sleep", lambda seconds: write(tmp_path))
    with pytest.raises(lock.Held):
        acquire(tmp_path)


def test_a_run_that_was_taken_for_dead_stops_and_leaves_the_lock_to_its_successor(faults, tmp_path):
    held = acquire(tmp_path)
    write(tmp_path)
    wait_for(lambda: held.lost)
    with pytest.raises(UserError, match=r"is process 7 on another-host now: this run was taken for dead"):
        held.check()
    held.close()
    assert json.loads((tmp_path / lock.FILE).read_text())["token"] == "theirs"


def test_a_server_that_cannot_be_reached_for_a_while_costs_nothing(faults, tmp_path, monkeypatch):
    def fail(path):
        raise ConnectionError("no route")

    held = acquire(tmp_path)
    faults.raises["pipe_file"] = fail
    time.sleep(0.1)
    held.check()
    faults.raises.clear()
    first = (tmp_path / lock.FILE).read_text()
    wait_for(lambda: (tmp_path / lock.FILE).read_text() not in ("", first))
    held.close()
    faults.raises["pipe_file"] = fail
    with pytest.raises(UserError, match=r"stand://.*: cannot be written: ConnectionError: no route"):
        acquire(tmp_path)
