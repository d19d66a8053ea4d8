"""The record of a run's input files: which changes a resume refuses, and the messages."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jaxft.core import checksums, lock
from jaxft.core.errors import UserError
from jaxft.run import input_files, rundir
from jaxft.run.claim import Claim
from tests.support import tiny


@pytest.fixture
def config(tiny_model, tiny_data, tmp_path, monkeypatch):
    """A config whose model and data are copies; reading the config of a run gives it back."""
    model, data = shutil.copytree(tiny_model, tmp_path / "model"), shutil.copytree(tiny_data, tmp_path / "data")
    config = tiny.run_config(model, data, tmp_path / "run", data={"test": str(data / "test.csv")})
    monkeypatch.setattr(rundir, "read_run_config", lambda directory: config)
    return config


def begin(config) -> None:
    with Claim(config) as claim:
        claim.settle(None)
        assert (Path(config.output_dir) / lock.FILE).exists()
        with pytest.raises(UserError, match="another run is using it: process"):
            Claim(config)
    names = sorted(path.name for path in Path(config.output_dir).iterdir())
    assert names == ["checksums.json", "config.yaml", "inputs.json"]


def swap(path: Path) -> None:
    """Swap two bytes, which keeps the size."""
    data = bytearray(path.read_bytes())
    i = next(i for i in range(len(data) - 1) if data[i] != data[i + 1])
    data[i], data[i + 1] = data[i + 1], data[i]
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("data/train.csv", "data.train: .*train.csv has changed"),
        ("data/dev.csv", "data.validation: .*dev.csv has changed"),
        ("data/test.csv", "data.test: .*test.csv has changed"),
        ("model/vocab.txt", "model.path: vocab.txt has changed"),
        ("model/config.json", "model.path: config.json has changed"),
    ],
)
def test_a_resume_refuses_changed_files(config, tmp_path, name, said):
    begin(config)
    begin(config)
    swap(tmp_path / name)
    with pytest.raises(UserError, match=f"began with other files .{said}.*put the old ones back"):
        Claim(config)
    swap(tmp_path / name)
    begin(config)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match="is not there any more"):
        Claim(config)


def test_changed_weights_are_refused_until_there_is_a_checkpoint(config, tmp_path, capsys):
    begin(config)
    swap(tmp_path / "model/model.safetensors")
    with Claim(config) as claim:
        claim.check_weights(3, adapted=False)
        line = "model.path: model.safetensors has changed since the run began: it goes on with its own parameters, of step 3"
        assert capsys.readouterr().err == f"{line}\n"
        for step, adapted in ((None, False), (3, True)):
            with pytest.raises(UserError, match=r"model\.safetensors has changed"):
                claim.check_weights(step, adapted=adapted)
    scratch = replace(config, model=replace(config.model, from_scratch=True))
    assert input_files.WEIGHTS not in input_files.read(scratch)


def test_the_record_covers_teacher_vocabulary_file_and_folders(config, tmp_path):
    (tmp_path / "words.txt").write_text("one\n")
    for label in "ab":
        (tmp_path / "texts" / label).mkdir(parents=True)
        (tmp_path / "texts" / label / "1.txt").write_text(label)
    config = replace(
        config,
        data=replace(config.data, train=str(tmp_path / "texts"), validation=None),
        distill=replace(config.distill, teacher=str(tmp_path / "model")),
        vocabulary=replace(config.vocabulary, file=str(tmp_path / "words.txt")),
    )
    before = input_files.read(config)
    assert set(before["distill.teacher"]) >= {"config.json", "model.safetensors", "vocab.txt"}
    input_files.record(tmp_path, before)
    (tmp_path / "texts" / ".DS_Store").write_text("x")
    assert input_files.changes(tmp_path, input_files.read(config)) == ([], [])
    (tmp_path / "texts/b/1.txt").rename(tmp_path / "texts/a/2.txt")
    (tmp_path / "words.txt").write_text("two\n")
    swap(tmp_path / "model/model.safetensors")
    changed, weights = input_files.changes(tmp_path, input_files.read(config))
    assert [line.split(":")[0] for line in changed] == ["data.train", "vocabulary.file", "distill.teacher"]
    assert len(weights) == 1


def test_patterns_name_files(tmp_path):
    for name in ("a1", "a2", "b[1]"):
        (tmp_path / name).write_text(name)
    assert [Path(name).name for name, _ in input_files._files(f"{tmp_path}/a*")] == ["a1", "a2"]
    assert [Path(name).name for name, _ in input_files._files(f"{tmp_path}/b[1]")] == ["b[1]"]
    assert not list(input_files._files(f"{tmp_path}/c"))


def test_a_missing_record_is_written_and_a_damaged_one_is_refused(config, tmp_path, capsys):
    begin(config)
    path = tmp_path / "run/inputs.json"
    path.unlink()
    begin(config)
    assert "recorded from now on" in capsys.readouterr().err
    assert checksums.read_sealed(path) == input_files.read(config)
    path.write_bytes(path.read_bytes().replace(b"a", b"b"))
    with pytest.raises(UserError, match=r"delete .*inputs\.json"):
        Claim(config)
    path.unlink()
    begin(config)


@pytest.mark.parametrize(
    "left",
    [
        [],
        [".config.yaml"],
        [".inputs.json.new"],
        [".config.yaml", "inputs.json"],
        [".config.yaml", "inputs.json", "checksums.json"],
        [".checksums.json.new", ".config.yaml"],
        ["run.lock"],
    ],
)
def test_an_interrupted_claim_is_made_again(config, tmp_path, left):
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).write_text("half")
        if name == lock.FILE:
            (tmp_path / "run" / name).unlink()
    begin(config)
    assert not (tmp_path / "run" / ".config.yaml").exists()


def test_leftovers_of_an_interrupted_export_are_removed(config, tmp_path):
    begin(config)
    for folder in (".model.abcdefgh", ".model.by-1-1-0123456789ab", f"model/.model.by-{2**22 + 5}-1-{lock._machine_id()}.x"):
        (tmp_path / "run" / folder).mkdir(parents=True)
        (tmp_path / "run" / folder / "model.safetensors").write_text("half")
    here = tmp_path / "run" / f".model.{lock.process_tag()}.x"
    here.mkdir()
    rundir.sweep(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").glob(".model.*")} == {here.name, ".model.by-1-1-0123456789ab"}
    assert not list((tmp_path / "run/model").iterdir())
