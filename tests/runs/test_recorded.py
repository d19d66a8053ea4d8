"""Export, evaluation and a restart of a finished run use what it recorded, not its data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxft import evaluate, export
from jaxft.core import checksums
from jaxft.run import rundir
from jaxft.run.setup import make_run
from jaxft.train import train
from tests.support import tiny
from tests.support.labelled_texts import MULTI, configure, write_files


def tensors(directory: Path) -> dict[str, np.ndarray]:
    return load_file(directory / "model.safetensors")


def labels_of(directory: Path) -> dict[str, str]:
    return json.loads((directory / "config.json").read_text())["id2label"]


@pytest.fixture(scope="module")
def held(tiny_model, tmp_path_factory) -> tuple[Path, Path, dict]:
    """(run directory, its training file, its results) of a run that validates on a share of its training rows."""
    folder = tmp_path_factory.mktemp("recorded")
    tiny.write_rows(folder / "train.csv", 60)
    data = {"validation": None, "validation_share": 0.25}
    config = tiny.run_config(
        tiny_model, folder, folder / "run", model=tiny.NO_DROPOUT, data=data, train={"epochs": 1}, seed=5
    )
    return folder / "run", folder / "train.csv", train(config)


def test_a_run_is_exported_without_its_data(held, tmp_path):
    run, file, _ = held
    file.rename(tmp_path / "gone.csv")
    try:
        export.main([str(run), "--output", str(tmp_path / "model")])
    finally:
        (tmp_path / "gone.csv").rename(file)
    for name, x in tensors(run / "model").items():
        np.testing.assert_array_equal(tensors(tmp_path / "model")[name], x)
    assert (tmp_path / "model/config.json").read_text() == (run / "model/config.json").read_text()


def test_held_out_rows_are_evaluated_again(held):
    run, _, results = held
    numbers = (run / "validation_rows.txt").read_text().split()
    assert len(numbers) == 15
    scores = evaluate.main([str(run)])
    assert scores["accuracy"] == results["eval/accuracy"]
    assert sum(map(sum, scores["confusion"])) == 15
    assert scores["confusion_labels"] == list(tiny.LABELS)


def test_a_changed_config_is_read_and_said(held, tmp_path, capsys):
    run = shutil.copytree(held[0], tmp_path / "run")
    assert rundir.read_run_config(run).seed == 5
    assert capsys.readouterr().err == ""
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("seed: 5", "seed: 4"))
    for _ in range(2):
        assert rundir.read_run_config(run).seed == 4
    said = f"{path} has other content than was written: its options are taken as they are now\n"
    assert capsys.readouterr().err == said
    (run / checksums.MANIFEST).unlink()  # as of an older version
    assert rundir.read_run_config(run).seed == 4
    assert capsys.readouterr().err == ""


def test_commands_take_the_same_options_of_a_run_with_and_without_others(held):
    run = str(held[0])
    assert rundir.config_of(run, []) == rundir.config_of(run, ["--seed=5"])


def test_older_defaults_of_unused_sections_do_not_matter(held, tmp_path):
    run = shutil.copytree(held[0], tmp_path / "run")
    path = run / "config.yaml"
    (run / checksums.MANIFEST).unlink()
    recorded = path.read_text()
    for now, before in {"  weight: 0.1\n  gamma": "  weight: 1.0\n  gamma", "  ratio: 3\n": "  ratio: 7\n"}.items():
        assert recorded.count(now) == 1
        recorded = recorded.replace(now, before)
    recorded = recorded.replace("  sampler: proportional\n", "  sampler: round_robin\n")
    path.write_text(recorded)
    read = rundir.read_run_config(run)
    assert rundir.differences(rundir.read_run_config(held[0]), read) == []
    assert evaluate.main([str(run)])["accuracy"] == held[2]["eval/accuracy"]


def test_held_out_rows_are_not_taken_from_a_damaged_list(held, tmp_path, fails):
    run = shutil.copytree(held[0], tmp_path / "run")
    path = run / "validation_rows.txt"
    first, rest = path.read_text().split("\n", 1)
    path.write_text(f"{int(first) ^ 1}\n{rest}")
    fails("evaluate", [run], f"{path} has", "put back a copy")


def test_held_out_rows_are_not_taken_from_a_changed_file(held, tmp_path, fails):
    """Row numbers mean nothing in a file that has changed; an equal file may be elsewhere."""
    run, file, results = held
    copy = tmp_path / "copy.csv"
    shutil.copy(file, copy)
    assert evaluate.main([str(run), "--data.train", str(copy)])["accuracy"] == results["eval/accuracy"]
    before = file.read_bytes()
    header, first, *others = before.splitlines(keepends=True)
    words = ("the run began with other files (data.train: ", f"{file} has changed): put the old ones back")
    try:
        file.write_bytes(b"".join([header, *others, first]))
        fails("evaluate", [str(run)], str(run), *words)
        share = ["--data.train", str(file), "--data.validation_share", "0.25", "--data.max_length", "32"]
        fails("evaluate", [str(run / "model"), *share], str(run), *words)
    finally:
        file.write_bytes(before)
    assert evaluate.main([str(run / "model"), *share])["accuracy"] == results["eval/accuracy"]


def test_held_out_rows_can_be_limited(held, tiny_model, tmp_path):
    """`data.max_eval_examples` limits them in training, and in evaluation of the same or of a longer list."""
    run, file, _ = held
    numbers = (run / "validation_rows.txt").read_text().split()
    assert sum(map(sum, evaluate.main([str(run), "--data.max_eval_examples", "4"])["confusion"])) == 4
    assert sum(map(sum, evaluate.main([str(run), "--data.max_train_examples", "60"])["confusion"])) == 15
    data = {"validation": None, "validation_share": 0.25, "max_eval_examples": 4}
    limited = make_run(tiny.run_config(tiny_model, file.parent, tmp_path / "run", data=data))
    assert len(limited.data["validation"].examples) == 4
    assert len(limited.data["train"].examples) == 45
    assert limited.texts()["validation_rows.txt"].split() == numbers[:4]


def test_changed_labels_do_not_rename_those_of_a_run(held, tmp_path, fails):
    run, file, _ = held
    before = file.read_bytes()
    shutil.copytree(run, tmp_path / "run")
    try:
        file.write_bytes(before.replace(b"calm", b"zen").replace(b"angry", b"mad"))
        export.main([str(tmp_path / "run")])
        assert labels_of(tmp_path / "run/model") == {str(i): x for i, x in enumerate(tiny.LABELS)}
        options = ["--output_dir", str(tmp_path / "run"), str(tmp_path / "run/config.yaml")]
        fails("train", [options[2], *options[:2]], f"{file} has changed", "put the old ones back")
        assert labels_of(tmp_path / "run/model") == {str(i): x for i, x in enumerate(tiny.LABELS)}
    finally:
        file.write_bytes(before)


@pytest.mark.slow
def test_thresholds_are_exported_without_data(tiny_model, tmp_path):
    folder = write_files(tmp_path)
    sections = {"task": {"threshold": "tune"}, "train": {"epochs": 1}, "checkpoint": {"select": "last"}}
    train(configure(tiny_model, folder, tmp_path / "run", MULTI, **sections))
    for name in ("train.csv", "dev.csv"):
        (folder / name).unlink()
    export.main([str(tmp_path / "run"), "--output", str(tmp_path / "model")])
    assert (tmp_path / "model/config.json").read_text() == (tmp_path / "run/model/config.json").read_text()
