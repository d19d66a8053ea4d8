"""A full disk costs what could not be written, and neither the run nor what is on the disk."""

import errno
import os
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import pytest

import jaxft
from jaxft.core import checksums
from jaxft.core.errors import UserError
from jaxft.core.signals import Stopped
from jaxft.train import train
from jaxft.training import integrity
from jaxft.training.loop import Loop
from tests.support.resuming import MODEL, journal, short_config

SECTIONS = {
    "plan": {"preset": "head"},
    "checkpoint": {"every": 2, "keep": 1},
    "eval": {"every": 2},
    "runtime": {"distributed": "off", "keep_frozen": False},
}
ACCURACY = {2: 0.5, 4: 0.9, 6: 0.6, 7: 0.55}
Usage = namedtuple("Usage", "total used free")


class Disk(jaxft.Callback):
    """A disk that has no room for checkpoints between two steps."""

    def __init__(self, monkeypatch, full: int, free: int) -> None:
        self._full, self._free, self.step = full, free, 0
        self._usage = shutil.disk_usage
        monkeypatch.setattr(shutil, "disk_usage", self.usage)

    def on_step(self, step) -> None:
        self.step = step.number

    @property
    def full(self) -> bool:
        return self._full <= self.step < self._free

    def usage(self, path):
        return Usage(1000, 1000, 0) if self.full else self._usage(path)


@pytest.fixture
def config(classifier, tiny_data, tmp_path, monkeypatch):
    """A run of 7 steps with checkpoints and evaluations at 2, 4, 6 and 7, of which step 4 is the best."""

    def scores(self, split: str) -> dict[str, float]:
        return {"accuracy": ACCURACY[int(self.state.step)], "loss": 1.0}

    monkeypatch.setattr(Loop, "scores", scores)
    return lambda name="run": short_config(
        classifier, tiny_data, tmp_path / name, data={"validation": str(tiny_data / "dev.csv")}, **SECTIONS
    )


def test_a_run_goes_on_and_saves_when_there_is_room_again(config, tmp_path, monkeypatch, capfd):
    results = train(config(), callbacks=[Disk(monkeypatch, 4, 6)])
    err = capfd.readouterr().err
    assert "the checkpoint of step 4 could not be written: No space left on device (" in err
    assert "the newest checkpoint is that of step 2" in err
    assert "step 4, the best so far, is not saved; the best that is saved is 2" in err
    assert results["eval/accuracy"] == ACCURACY[6]
    assert integrity.steps(tmp_path / "run") == [6, 7]
    assert all(integrity.verify(tmp_path / "run", step).damage is None for step in (6, 7))


@pytest.mark.slow
def test_a_run_whose_last_checkpoints_are_not_written_says_so_and_loses_nothing(config, tmp_path, monkeypatch):
    disk = Disk(monkeypatch, 6, 99)
    train(config("whole"))
    with pytest.raises(UserError, match=r"model/ is written, but the checkpoint of step 7 is not: .* from step 4 on"):
        train(config(), callbacks=[disk])
    assert integrity.steps(tmp_path / "run") == [4]
    assert (tmp_path / "run" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    disk.step = 0
    train(config())
    assert (tmp_path / "run" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    assert journal(tmp_path / "run") == journal(tmp_path / "whole")
    assert integrity.steps(tmp_path / "run") == integrity.steps(tmp_path / "whole") == [4, 7]


def test_older_checkpoints_stay_until_a_newer_one_is_whole(config, tmp_path, monkeypatch, capfd):
    write, there = checksums.write_manifest, {}

    def write_manifest(folder: Path, **more) -> None:  # in orbax's thread, when all else is written
        step = folder.name.partition(".")[0]
        if step.isdigit():  # frozen/ and model/ have manifests, too
            there[int(step)] = integrity.steps(tmp_path / "run")
        if step == "4":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, **more)

    monkeypatch.setattr(checksums, "write_manifest", write_manifest)
    train(config())
    assert there == {2: [], 4: [2], 6: [2], 7: [6]}
    err = capfd.readouterr().err
    assert "the checkpoint of step 4 could not be written: No space left on device; the run goes on" in err
    assert "Traceback" not in err
    assert not list((tmp_path / "run/checkpoints").glob("*tmp*"))


@pytest.mark.slow
def test_a_run_that_is_stopped_does_not_claim_to_be_saved(config, monkeypatch):
    class Stop(Disk):
        def on_step(self, step) -> None:
            super().on_step(step)
            if step.number == 5:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match=r"step [67] could not be saved in .* and the newest checkpoint is that of step 4"):
        train(config(), callbacks=[Stop(monkeypatch, 5, 99)])
