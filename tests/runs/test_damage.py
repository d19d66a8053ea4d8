"""Damaged checkpoints are skipped with a line, and the run ends with the same model."""

import json
import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxft.core import checksums
from jaxft.core.errors import UserError
from jaxft.export import main as export
from jaxft.step.train_step import TrainState
from jaxft.train import train
from jaxft.training import integrity
from jaxft.training.checkpoint import Checkpoints
from jaxft.training.early_stopping import EvaluationState
from tests.support import tiny
from tests.support.resuming import MODEL, journal, short_config

SECTIONS = {
    "plan": {"preset": "head"},
    "checkpoint": {"every": 2, "keep": 9},
    "runtime": {"distributed": "off", "keep_frozen": False},
}


@pytest.fixture(scope="module")
def whole(classifier, tiny_data, tmp_path_factory) -> Path:
    """A finished run of 7 steps with checkpoints at 2, 4, 6 and 7, most of it frozen; to read only."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    train(short_config(classifier, tiny_data, directory, **SECTIONS))
    return directory


@pytest.fixture
def again(whole, classifier, tiny_data, tmp_path):
    """A copy without its model, and a function that trains in it and returns the model's bytes."""
    directory = tmp_path / "run"
    shutil.copytree(whole, directory, ignore=shutil.ignore_patterns("model"))

    def run(model: Path = classifier) -> bytes:
        train(short_config(model, tiny_data, directory, **SECTIONS))
        return (directory / MODEL).read_bytes()

    return directory, run


def files(directory: Path, *folders: str) -> list[Path]:
    return sorted(p for folder in folders for p in (directory / folder).rglob("*") if p.is_file())


def damage(path: Path, rng: random.Random) -> str:
    """Flip a bit of a file, or truncate, empty or delete it."""
    data, kind = bytearray(path.read_bytes()), rng.choice(["flip", "flip", "truncate", "empty", "delete"])
    if kind == "flip" and data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "truncate":
        del data[rng.randrange(len(data) or 1) :]
    elif kind == "empty":
        data.clear()
    path.write_bytes(data)
    if kind == "delete":
        path.unlink()
    return f"{kind} {path.parent.name}/{path.name}"


def test_damage_of_any_file_is_noticed_and_named(whole, tmp_path):
    rng, lines = random.Random(1), []
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    shutil.copytree(whole / "frozen", tmp_path / "frozen")
    content = integrity.verify(tmp_path, 7).frozen
    assert integrity.newest_usable(tmp_path, best=True, say=lines.append) == 7
    assert content
    assert not integrity.verify_frozen(tmp_path, content).damage
    assert not lines
    for path in files(tmp_path, "checkpoints/7", "frozen"):
        if path.parent == tmp_path / "checkpoints" / "7" and path.name in integrity.TIMES:
            continue
        if path.parent == tmp_path / "frozen" and path.name in integrity.TIMES:
            continue
        for _ in range(3):
            before = path.read_bytes()
            what = damage(path, rng)
            frozen = path.is_relative_to(tmp_path / "frozen")
            if not path.exists() or path.read_bytes() != before:
                found = integrity.verify_frozen(tmp_path, content) if frozen else integrity.verify(tmp_path, 7)
                noticed = found.damage
                seal = path.name == checksums.MANIFEST and path.exists()  # a bit of its white space may change nothing
                assert noticed or (seal and checksums.read_sealed(path)), what
                assert seal or path.name in noticed
                if not frozen and noticed:
                    assert integrity.newest_usable(tmp_path, best=True, say=lines.append) == 6
                    assert "step 7 is passed over: checkpoints/7/" in lines[-1]
            path.write_bytes(before)


def test_a_damaged_checkpoint_is_skipped(again, whole, capfd):
    directory, run = again
    damaged = max(files(directory, "checkpoints/7/state"), key=lambda path: path.stat().st_size)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(UserError, match=f"step 7 is damaged .*{damaged.name}"):
        export([str(directory)])
    assert run() == (whole / MODEL).read_bytes()
    assert journal(directory) == journal(whole)
    assert (
        f"step 7 is passed over: checkpoints/7/{damaged.relative_to(directory / 'checkpoints/7')}" in capfd.readouterr().err
    )
    assert integrity.verify(directory, 7).damage is None


@pytest.mark.slow
def test_frozen_parameters_are_restored_from_the_model_if_it_gives_the_same(again, whole, capfd, classifier, tmp_path):
    directory, run = again
    damaged = max(files(directory, "frozen"), key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-5])
    before = {path: path.read_bytes() for path in files(directory, "checkpoints")}
    model = shutil.copytree(classifier, tmp_path / "other")
    config = (directory / "config.yaml").read_text()
    tiny.write_model(model, labels=tiny.LABELS, seed=5)
    (directory / "config.yaml").write_text(config.replace(str(classifier), str(model)))
    with pytest.raises(UserError, match=f"frozen/.*{damaged.name} has .* and model.path does not give the same"):
        run(model)
    assert before == {path: path.read_bytes() for path in files(directory, "checkpoints")}

    (directory / "config.yaml").write_text(config)
    assert run() == (whole / MODEL).read_bytes()
    assert "are made again from the model" in capfd.readouterr().err
    assert integrity.verify_frozen(directory, integrity.verify(directory, 7).frozen).damage is None


def test_a_run_without_an_intact_checkpoint_says_what_to_do(again, capfd):
    directory, run = again
    for step in integrity.steps(directory):
        files(directory, f"checkpoints/{step}/state")[-1].unlink()
    before = files(directory, "checkpoints")
    with pytest.raises(UserError, match=r"none of its checkpoints is whole: put back a copy .* or delete .*/checkpoints to"):
        run()
    err = capfd.readouterr().err
    assert all(f"step {step} is passed over" in err for step in (2, 4, 6, 7))
    assert files(directory, "checkpoints") == before


def test_a_checkpoint_needs_its_best_step(tmp_path):
    def write(step: int, best: int) -> None:
        folder = tmp_path / "checkpoints" / str(step)
        (folder / "progress").mkdir(parents=True)
        (folder / "progress" / "metadata").write_text(json.dumps({"best_step": best, integrity.RECORDED: True}))
        checksums.write_manifest(folder)

    for step, best in ((3, 3), (6, 3), (8, 8), (9, 8)):
        write(step, best)
    assert integrity.newest_usable(tmp_path, best=True, say=print) == 9
    (tmp_path / "checkpoints/8/progress/metadata").write_text("{}")
    assert integrity.newest_usable(tmp_path, best=False, say=print) == 9
    assert integrity.newest_usable(tmp_path, best=True, say=print) == 6
    shutil.rmtree(tmp_path / "checkpoints/3")  # as if a later step had been better
    assert integrity.newest_usable(tmp_path, best=True, say=print) == 6
    shutil.rmtree(tmp_path / "checkpoints/8")
    assert integrity.newest_usable(tmp_path, best=True, say=print) == 6
    (tmp_path / "checkpoints/6" / checksums.MANIFEST).unlink()
    with pytest.raises(UserError, match="none of its checkpoints is whole"):
        integrity.newest_usable(tmp_path, best=True, say=print)


def test_a_best_step_that_is_lost_is_not_taken_for_one_that_comes_again(tmp_path):
    for step in (4, 6, 8):
        folder = tmp_path / "checkpoints" / str(step)
        (folder / "progress").mkdir(parents=True)
        progress = {"best_step": 2 if step == 4 else 5, integrity.RECORDED: True}
        (folder / "progress" / "metadata").write_text(json.dumps(progress))
        checksums.write_manifest(folder)
    assert integrity.newest_usable(tmp_path, best=True, say=print) == 4  # which begins before step 5


@pytest.mark.slow
def test_checkpoints_without_checksums_are_read(again, whole, capfd):
    directory, run = again
    shutil.rmtree(directory / "checkpoints/7")
    for path in directory.rglob(checksums.MANIFEST):
        path.unlink()
    for path in directory.glob("checkpoints/*/progress/metadata"):
        progress = json.loads(path.read_text())
        assert progress.pop(integrity.RECORDED)
        path.write_text(json.dumps(progress))
    (directory / "inputs.json").unlink()
    assert run() == (whole / MODEL).read_bytes()
    err = capfd.readouterr().err
    for part in ("recorded from now on", "step 6 was written without checksums", "frozen/ was written without checksums"):
        assert part in err
    assert (directory / "inputs.json").is_file()

    for path in directory.glob("checkpoints/7/*"):
        if path.name == checksums.MANIFEST:
            path.unlink()
    path = directory / "checkpoints/7/progress/metadata"
    path.write_text(path.read_text().replace(f', "{integrity.RECORDED}": true', ""))
    for path in files(directory, "checkpoints/7/state"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="step 7 cannot be read: a file in checkpoints/7 is damaged"):
        run()
    assert integrity.steps(directory) == [2, 4, 6, 7]


def test_a_failing_disk_is_not_taken_for_damage(again, monkeypatch):
    directory, _ = again

    def fails(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(checksums, "of_file", fails)
    with pytest.raises(OSError, match="Input/output error"):
        integrity.newest_usable(directory, best=True, say=print)


def test_checksums_are_recorded_before_a_checkpoint_gets_its_name(tmp_path):
    """So that a killed process leaves both or neither."""
    seen = []

    class Spy(Checkpoints):
        def _record(self) -> None:
            super()._record()
            seen.extend(path.name for path in (tmp_path / "checkpoints").iterdir() if (path / checksums.MANIFEST).exists())

    checkpoints = Spy(tmp_path, keep=2)
    x = {"x": jnp.ones(3)}
    checkpoints.save(TrainState(x, x, jnp.int32(3), jax.random.key(0), {}), EvaluationState())
    checkpoints.close()
    assert len(seen) == 1
    assert "tmp" in seen[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_no_damage_gives_another_model(again, whole, seed):
    directory, run = again
    rng = random.Random(seed)
    places = ["frozen"] if seed % 3 == 0 else ["checkpoints/7"]
    candidates = files(directory, *places)
    large = [path for path in candidates if path.stat().st_size > 500]
    what = damage(rng.choice(large if seed % 2 else candidates), rng)
    assert run() == (whole / MODEL).read_bytes(), what
