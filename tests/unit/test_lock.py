"""One run per directory: who holds the lock, and who may take it over."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxft.core import lock
from jaxft.core.errors import UserError
from jaxft.models.weights.tensor_files import write_directory


def owned(directory: Path, **changes) -> Path:
    """A lock file of this process, but for some changes."""
    path = directory / lock.FILE
    path.write_text(json.dumps({**lock.identity(), "token": "another", **changes}))
    return path


@pytest.fixture
def other():
    """A process that lives until the test ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_held_directory_is_refused_and_a_released_one_is_not(tmp_path):
    with lock.acquire(tmp_path) as held:
        held.check()
        with pytest.raises(UserError, match=f"process {os.getpid()} on {socket.gethostname()}"):
            lock.acquire(tmp_path)
    assert not list(tmp_path.iterdir())
    lock.acquire(tmp_path).close()


def test_a_living_process_keeps_it_and_a_dead_one_does_not(tmp_path, other):
    owned(tmp_path, pid=other.pid, start=lock._start_time(other.pid))
    with pytest.raises(UserError, match=f"process {other.pid} on"):
        lock.acquire(tmp_path)
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie, as children of other processes may
    said = []
    with lock.acquire(tmp_path, said.append):
        assert f"of process {other.pid} on" in said[0]


def test_another_process_of_the_same_number_is_not_the_owner(tmp_path, other):
    owned(tmp_path, pid=other.pid, start="1")
    lock.acquire(tmp_path, print).close()
    owned(tmp_path)  # this process, which holds no lock: a thread that crashed left it
    lock.acquire(tmp_path, print).close()


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"place": "another boot"}, {"start": None, "pid": 1}])
def test_a_lock_from_elsewhere_expires_by_the_time_of_its_file(tmp_path, monkeypatch, change):
    path = owned(tmp_path, **change)
    now = time.time()
    os.utime(path, (now - lock.STALE - 5,) * 2)
    lock.acquire(tmp_path, print).close()

    path = owned(tmp_path, **change)
    monkeypatch.setattr(time, "sleep", lambda seconds: os.utime(path, (now + 7,) * 2))  # a sign of life
    with pytest.raises(UserError, match="another run is using it"):
        lock.acquire(tmp_path, print)

    os.utime(path, (now - lock.STALE + 20,) * 2)
    monkeypatch.setattr(time, "sleep", lambda seconds: monkeypatch.setattr(lock, "STALE", 1.0))  # time passes without one
    said = []
    lock.acquire(tmp_path, said.append).close()
    assert "waiting up to" in said[0]
    assert "taking over" in said[1]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pid": 3}'])
def test_an_old_damaged_lock_is_taken_over(tmp_path, content):
    path = tmp_path / lock.FILE
    path.write_text(content)
    os.utime(path, (1e9, 1e9))
    lock.acquire(tmp_path, print).close()


def test_a_lock_is_refreshed_and_its_loss_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with lock.acquire(tmp_path) as held:
        path = tmp_path / lock.FILE
        os.utime(path, (1e9, 1e9))
        for _ in range(6_000):  # a minute at most
            if path.stat().st_mtime > 1e9:
                break
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 60
        owned(tmp_path, host="elsewhere", pid=7)
        with pytest.raises(UserError, match="process 7 on elsewhere"):
            held.check()
    assert path.exists()  # the other's


def test_a_lock_works_without_hard_links(tmp_path, monkeypatch):
    def no_links(*args):
        raise PermissionError

    monkeypatch.setattr(os, "link", no_links)
    with lock.acquire(tmp_path), pytest.raises(UserError, match="another run"):
        lock.acquire(tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_of_several_concurrent_takeovers_wins(tmp_path):
    program = (
        "import sys; from pathlib import Path; from jaxft.core import lock\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "with lock.acquire(Path(sys.argv[1])): print('won', flush=True); sys.stdin.readline()"
    )
    owned(tmp_path, pid=2**22 + 1, start="1")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    racers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], **pipes) for _ in range(4)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [racer.stdout.readline() for racer in racers]  # nothing of those that were refused
    for racer in racers:
        racer.communicate()
    assert sorted(won) == ["", "", "", "won\n"]
    assert not list(tmp_path.iterdir())


def test_leftovers_of_an_interrupted_writer_are_removed_by_the_next(tmp_path, other):
    target = tmp_path / "model"
    here = lock._machine_id()
    living, dead, far = (
        tmp_path / f".model.{mark}.x1"
        for mark in (
            f"by-{other.pid}-{lock._start_time(other.pid)}-{here}",
            f"by-{other.pid}-1-{here}",
            "by-5-5-0123456789ab",
        )
    )
    for folder in (living, dead, far, tmp_path / ".modelling.by-1-1-ab.x"):
        folder.mkdir()
        (folder / "half").write_text("x")
    write_directory(target, {"a": lambda path: path.write_text("a")})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["model", living.name, far.name, ".modelling.by-1-1-ab.x"]
    )
    os.utime(far, (1e9, 1e9))
    inside = target / f".model.{lock.process_tag()}.left"  # of an earlier try of this process? it lives: it stays
    inside.mkdir()
    write_directory(target, {"a": lambda path: path.write_text("b")})
    assert inside.exists()
