"""Output directories that are in use, and failures during a run: one line, and good files stay."""

import importlib
import os
from pathlib import Path

import pytest

from jaxft.config import cli
from tests.support import tiny
from tests.support.damage import DISK_FULL


def snapshot(directory: Path) -> dict:
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["seed[1]", "seed\\1"])
def test_a_directory_that_orbax_would_not_find_again(train_fails, tmp_path, name):
    """Its checkpoints were written without an error, and could not be read when the run was resumed or exported."""
    train_fails({"output_dir": tmp_path / name}, "output_dir", f"{name}: checkpoints in", "choose a name without them")
    assert not (tmp_path / name).exists()


def test_output_dir_of_another_run(train_fails, fails, finished, tiny_model, tiny_data):
    before = snapshot(finished)
    changes = {"output_dir": finished, "optim.learning_rate": 1e-4}
    train_fails(changes, "another run", "optim.learning_rate (0.003 there, 0.0001 here)")
    assert snapshot(finished) == before


def test_output_dir_with_foreign_files(train_fails, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    train_fails({"output_dir": tmp_path / "mine"}, "mine", "no config.yaml")
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


@pytest.mark.parametrize("inside", ["", "run"])
def test_output_dir_that_is_a_file(train_fails, tmp_path, inside):
    (tmp_path / "file").write_text("x")
    train_fails({"output_dir": tmp_path / "file" / inside}, "output_dir", "is a file")
    assert (tmp_path / "file").read_text() == "x"


def test_output_dir_that_cannot_be_made(train_fails):
    train_fails({"output_dir": "/proc/nowhere/run"}, "output_dir /proc/nowhere/run", "cannot be written")


def test_read_only_output_dir(train_fails, monkeypatch):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    train_fails({}, "output_dir", "not writable")


def test_torn_config_in_the_output_dir(train_fails, tmp_path):
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.yaml").write_text("data: {train")
    train_fails({"output_dir": tmp_path / "torn"}, "torn/config.yaml", "not valid YAML")


# During a run


@pytest.fixture
def short_run(tiny_model, tiny_data, tmp_path):
    """The arguments of a short run, with changed sections."""

    def argv(**sections) -> list:
        sections = {"model": tiny.NO_DROPOUT, "train": {"epochs": 1}, **sections}
        config = tiny.run_config(tiny_model, tiny_data, tmp_path / "run", **sections)
        (tmp_path / "short.yaml").write_text(cli.dump(config))
        return [tmp_path / "short.yaml"]

    return argv


def test_loss_that_is_not_a_number(fails, short_run, tmp_path):
    argv = short_run(optim={"learning_rate": 1e30, "clip": None, "warmup": 0}, checkpoint={"every": 1})
    words = ("at step", "learning rate", "e+", "the newest checkpoint is that of step", "lower optim.learning_rate")
    line = fails("train", argv, *words)
    step = int(line.split("at step ")[1].split()[0])
    assert (tmp_path / "run" / "checkpoints" / str(step - 1)).is_dir()
    assert not (tmp_path / "run" / "model").exists()


def test_checkpoint_that_cannot_be_written(fails, short_run, monkeypatch, tmp_path):
    import orbax.checkpoint

    def full(*args, **kwargs):
        raise DISK_FULL

    monkeypatch.setattr(orbax.checkpoint.CheckpointManager, "save", full)
    fails("train", short_run(), str(tmp_path / "run"), "model/ is written", "checkpoint", "No space left on device")
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_disk_full_while_the_model_is_written(fails, short_run, monkeypatch, tmp_path):
    import safetensors.numpy

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    fails("train", short_run(), "model", "cannot be written", "No space left on device")
    assert not (tmp_path / "run" / "model").exists()
    assert not list((tmp_path / "run").glob(".model*"))


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Exception, match=r"absent\.yaml") as error:
        cli.run_main(importlib.import_module("jaxft.train").main, [str(tmp_path / "absent.yaml"), "--debug"])
    assert type(error.value).__name__ == "UserError"
