"""jaxft suspicious_labels: cross-validation of a run, and the rows that it lists."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest

import jaxft.train
from jaxft import suspicious_labels
from jaxft.config import cli
from tests.support import ROOT, read_jsonl, tiny

FLIPPED = (3, 17, 40)  # numbers of rows that get the next label


def write_config(model: Path, folder: Path, /, **sections) -> Path:
    """A config whose training data are learnable but for the rows FLIPPED."""
    tiny.write_rows(folder / "train.csv", 120)
    with open(folder / "train.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    for number in FLIPPED:
        rows[number][1] = tiny.LABELS[(tiny.LABELS.index(rows[number][1]) + 1) % 3]
    with open(folder / "train.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    base = {
        "model": {"path": str(model), **tiny.NO_DROPOUT},
        "optim": {"learning_rate": 1e-2},
        "train": {"epochs": 10, "batch_size": 10},
        "eval": {"every": "end"},
        "checkpoint": {"every": 30},
    }
    data = {"validation": None, "layout": "bucket", **sections.pop("data", {})}
    config = tiny.run_config(model, folder, folder / "unused", **{**base, "data": data, **sections})
    (folder / "config.yaml").write_text(cli.dump(config), encoding="utf-8")
    return folder / "config.yaml"


def find(config: Path, rule: str = "all") -> list[dict]:
    output = config.parent / "listed.jsonl"
    suspicious_labels.main([str(config), "--output", str(output), "--folds", "2", "--rule", rule])
    return read_jsonl(output)


@pytest.fixture(scope="module")
def found(tiny_model, tmp_path_factory) -> tuple[Path, list[dict]]:
    """(a config, the rows listed with it); what the command said is in said.txt."""
    config = write_config(tiny_model, tmp_path_factory.mktemp("suspicious"))
    with open(config.parent / "said.txt", "w", encoding="utf-8") as file, redirect_stderr(file):
        return config, find(config)


def test_wrong_labels_are_listed_first(found):
    config, listed = found
    assert {row["row"] for row in listed[:3]} == set(FLIPPED)
    with open(config.parent / "train.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    clue_of = {clue: label for label, clue in tiny.CLUES.items()}
    for row in listed[:3]:
        assert row["text"] == rows[row["row"] - 1]["text"]
        assert row["label"] == rows[row["row"] - 1]["label"]
        assert clue_of[next(word for word in row["text"].split() if word in clue_of)] == row["suggested_label"]
        assert -1 <= row["margin"] < 0 < row["self_confidence"] < 0.5
    assert sorted(row["row"] for row in listed) == list(range(1, 121))
    assert [row["self_confidence"] for row in listed] == sorted(row["self_confidence"] for row in listed)


def test_no_parameters_stay(found):
    work = found[0].parent / "listed.jsonl.work"
    assert {path.name for path in work.iterdir()} == {
        "series.json",
        "accuracy-of-2.json",
        *(f"fold-{i}-of-2{end}" for i in (1, 2) for end in ("", ".npy")),
    }
    left = {path.name for path in (work / "fold-1-of-2").iterdir()}
    assert left == {"config.yaml", "metrics.jsonl", "times.json", "inputs.json", "run.json", "checksums.json"}


def test_the_accuracy_of_the_runs_is_told(found):
    """Flipped labels count as wrong, as the labels are the given ones."""
    config, listed = found
    accuracy = json.loads((config.parent / "listed.jsonl.work" / "accuracy-of-2.json").read_text())
    assert accuracy["all"] == pytest.approx(np.mean([row["label"] == row["suggested_label"] for row in listed]))
    assert np.mean(accuracy["folds"]) == pytest.approx(accuracy["all"])  # of one size
    assert 1 / 3 <= accuracy["most_frequent_label"] < 0.5 < accuracy["all"] < 1


def test_what_all_runs_have_in_common_is_said_once(found):
    said = (found[0].parent / "said.txt").read_text(encoding="utf-8").splitlines()
    for begin in ("jax ", "model: ", "parameters: "):
        assert sum(line.startswith(begin) for line in said) == 1, begin
    assert sum(line.startswith(("fold ", "done in ")) for line in said) == 4


def test_runs_that_cannot_judge_labels_are_named(tiny_model, tiny_data, tmp_path, monkeypatch, capsys):
    rows = [("lake", "calm"), ("song", "calm"), ("storm", "merry"), ("sun", "merry"), ("river", "merry")]
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    config = tiny.run_config(tiny_model, tmp_path, tmp_path / "run", data={"validation": None})
    told(monkeypatch, {text: [0.7, 0.3] for text, _ in rows})
    suspicious_labels.suspicious_labels(config, 2, tmp_path / "work", "all")
    said = capsys.readouterr().err
    assert "; of all rows 0.4000 (the most frequent label: 0.6000); runs that predict no better than" in said
    told(monkeypatch, {text: [0.7, 0.3] if label == "calm" else [0.3, 0.7] for text, label in rows})
    suspicious_labels.suspicious_labels(config, 2, tmp_path / "work", "all")
    assert "accuracy of the folds 1.0000, 1.0000; of all rows 1.0000" in (said := capsys.readouterr().err)
    assert "no better" not in said


def test_a_finished_fold_is_not_trained_again_and_other_rules_need_no_run(found, monkeypatch):
    config, listed = found
    monkeypatch.setattr(jaxft.train, "train", None)
    assert find(config) == listed
    for rule in ("noise_rate", "confident"):
        some = {row["row"] for row in find(config, rule)}
        assert some <= set(FLIPPED)
        assert some


@pytest.mark.slow
def test_an_interrupted_command_resumes(found, tiny_model, tmp_path, monkeypatch):
    """The second fold stops once; the first one is not trained again, and the rows are the same."""
    config, real, outputs = write_config(tiny_model, tmp_path), jaxft.train.train, []

    def stops_once(config, **more):
        outputs.append(Path(config.output_dir).name)
        if len(outputs) == 2:
            raise KeyboardInterrupt
        return real(config, **more)

    monkeypatch.setattr(jaxft.train, "train", stops_once)
    with pytest.raises(KeyboardInterrupt):
        find(config)
    assert find(config) == found[1]
    assert outputs == ["fold-1-of-2", "fold-2-of-2", "fold-2-of-2"]


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bits(tiny_model, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}

    def start(name: str) -> subprocess.Popen:
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            write_config(tiny_model, folder)
        argv = [folder / "config.yaml", "--output", folder / "listed.jsonl", "--work", folder / "work", "--folds", "2"]
        argv = [sys.executable, "-m", "jaxft.suspicious_labels", *map(str, argv), "--rule", "all"]
        return subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL)

    work = tmp_path / "killed" / "work"
    for moment in ("series.json", "fold-1-of-2/checkpoints/30", "fold-1-of-2.npy", "fold-2-of-2/model"):
        process = start("killed")
        while not (work / moment).exists() and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "killed" / "listed.jsonl").exists()
    assert start("killed").wait() == start("whole").wait() == 0
    for name in ("listed.jsonl", "work/fold-1-of-2.npy", "work/fold-2-of-2.npy"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def told(monkeypatch, probabilities: dict[str, list[float]]):
    """Without runs: each row has the probabilities of its text."""

    def of_texts(self, labels):
        return np.asarray([probabilities[row[self.config.data.text]] for row in self.json_rows], np.float32)

    monkeypatch.setattr(suspicious_labels._CrossValidation, "_probabilities", of_texts)


def test_rows_are_numbered_as_in_their_files(tiny_model, tmp_path, monkeypatch):
    """Also after rows without a text, and in each of several files; pairs have both texts."""
    for name, texts in (("one", ["a", "", "b"]), ("two", ["", "c", "d"])):
        rows = [{"text": x, "other": f"{x}{x}", "label": "calm" if x in "ac" else "merry"} for x in texts]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    files = [str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl")]
    data = {"train": files, "validation": None, "text_pair": "other", "empty_texts": "drop"}
    config = tiny.run_config(tiny_model, tmp_path, tmp_path / "run", data=data)
    told(monkeypatch, {"a": [0.9, 0.1], "b": [0.2, 0.8], "c": [0.05, 0.95], "d": [0.4, 0.6]})
    first, *rest = suspicious_labels.suspicious_labels(config, 2, tmp_path / "work", "all")
    assert first == {
        "file": files[1],
        "row": 2,
        "text": "c",
        "text_pair": "cc",
        "label": "calm",
        "suggested_label": "merry",
        "self_confidence": pytest.approx(0.05),
        "margin": pytest.approx(-0.9),
    }
    assert [(row["file"], row["row"]) for row in rest] == [(files[1], 3), (files[0], 3), (files[0], 1)]


def test_rows_with_the_same_text_are_in_one_fold(tiny_model, tiny_data, tmp_path):
    rows = [("lake", "calm")] * 4 + [("song", "merry")] * 3 + [("storm", "angry"), ("sun", "calm")]
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    config = tiny.run_config(tiny_model, tmp_path, tmp_path / "run", data={"validation": None})
    from jaxft.run.labelled_rows import read_labelled

    folds = suspicious_labels._CrossValidation(config, read_labelled(config), 2, tmp_path / "work").fold_of_row
    assert len(set(folds[:4])) == len(set(folds[4:7])) == 1
    assert set(folds) == {0, 1}


def test_each_fold_sets_aside_validation_rows_of_the_others(tiny_model, tmp_path, monkeypatch):
    config = write_config(tiny_model, tmp_path, data={"validation_share": 0.2, "stratify": True})
    seen = []

    def stop(config, **_):
        seen.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(jaxft.train, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        find(config)
    (of_fold,) = seen
    assert (of_fold.data.validation_share, of_fold.data.stratify, of_fold.data.validation) == (0.2, True, None)
    assert len(read_jsonl(Path(of_fold.data.train[0]))) == 60
    assert of_fold.task.labels == tiny.LABELS
