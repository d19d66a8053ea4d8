"""jaxft self_train: its rounds, their files, and resuming."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import jaxft.train
from jaxft import self_train
from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.evaluation import inference
from jaxft.run.labelled_rows import read_labelled
from tests.support import ROOT, read_jsonl, tiny
from tests.support.resuming import MODEL

OPTIONS = self_train.Options(rounds=1, threshold=0.6, most_per_class=20)


def make_config(model: Path, folder: Path, /, **sections):
    """A run on 40 labelled rows, and the files that it reads."""
    tiny.write_rows(folder / "train.csv", 40)
    tiny.write_rows(folder / "dev.csv", 30, 1)
    tiny.write_rows(folder / "unlabelled.csv", 100, 2)
    base = {
        "model": {"path": str(model), **tiny.NO_DROPOUT},
        "optim": {"learning_rate": 1e-2},
        "train": {"max_steps": 40, "batch_size": 10},
        "eval": {"every": "end"},
        "checkpoint": {"every": 20},
    }
    data = {"layout": "bucket", **sections.pop("data", {})}
    return tiny.run_config(model, folder, folder / "out", **{**base, "data": data, **sections})


def run(config, options=OPTIONS):
    return self_train.self_train(config, str(Path(config.output_dir).parent / "unlabelled.csv"), options)


def pseudo_labels(folder: Path) -> Path:
    """A file of two pseudo-labels of one class."""
    path = folder / "pseudo.jsonl"
    path.write_text('{"text": "lake", "label": "calm"}\n' * 2)
    return path


@pytest.fixture(scope="module")
def done(tiny_model, tmp_path_factory):
    """(the folder of the data and of the rounds, their results)."""
    folder = tmp_path_factory.mktemp("self_training")
    return folder, run(make_config(tiny_model, folder))


@pytest.mark.slow
def test_each_round_is_a_run_on_the_predictions_of_the_one_before(done):
    folder, results = done
    assert [set(row["scores"]) for row in results] == [{"eval/accuracy"}] * 2
    assert results[0]["pseudo_labels"] == 0
    with open(folder / "unlabelled.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = read_jsonl(folder / "out" / "pseudo_labels-1.jsonl")
    assert results[1]["pseudo_labels"] == len(labels) > 0
    config = cli.load([str(folder / "out" / "round-1" / "config.yaml")])
    assert config.data.train == [str(folder / "out" / name) for name in ("labelled.jsonl", "pseudo_labels-1.jsonl")]
    assert config.model.path == cli.load([str(folder / "out/round-0/config.yaml")]).model.path
    for row in labels:
        assert row["text"] == rows[row["row"] - 1]["text"]
        assert OPTIONS.threshold <= row["probability"] <= 1
    counts = [sum(row["label"] == label for row in labels) for label in tiny.LABELS]
    assert max(counts) <= 20
    previous = str(folder / "out" / "round-0")
    unlabelled = replace(config.data, train=None, test=str(folder / "unlabelled.csv"), validation=None)
    config = inference.config_with_task(previous, replace(config, data=unlabelled))
    opened = inference.load_for_inference(previous, config)
    predicted = list(inference.predict(opened, inference.read_split(config, "test", labelled=False), "test"))
    assert [predicted[row["row"] - 1]["label"] for row in labels] == [row["label"] for row in labels]


@pytest.mark.slow
def test_round_0_is_the_run_of_the_config(done, tiny_model, tmp_path):
    config = make_config(tiny_model, tmp_path)
    jaxft.train.train(replace(config, output_dir=str(tmp_path / "plain")))
    assert (tmp_path / "plain" / MODEL).read_bytes() == (done[0] / "out" / "round-0" / MODEL).read_bytes()


@pytest.mark.slow
def test_an_interrupted_command_resumes(done, tiny_model, tmp_path, monkeypatch, capsys):
    config, real, outputs = make_config(tiny_model, tmp_path), jaxft.train.train, []

    def stops_once(config, **more):
        outputs.append(Path(config.output_dir).name)
        if len(outputs) == 2:
            raise KeyboardInterrupt
        return real(config, **more)

    monkeypatch.setattr(jaxft.train, "train", stops_once)
    with pytest.raises(KeyboardInterrupt):
        run(config, OPTIONS)
    (tmp_path / "config.yaml").write_text(cli.dump(config), encoding="utf-8")
    argv = [str(tmp_path / "config.yaml"), "--unlabelled", str(tmp_path / "unlabelled.csv"), "--rounds=1", "--threshold=0.6"]
    self_train.main([*argv, "--most_per_class", "20"])
    assert outputs == ["round-0", "round-1", "round-1"]
    assert (tmp_path / "out/round-1" / MODEL).read_bytes() == (done[0] / "out/round-1" / MODEL).read_bytes()
    (line,) = capsys.readouterr().out.splitlines()
    shown, taken = [f"eval/accuracy {x['scores']['eval/accuracy']:.4f}" for x in done[1]], done[1][1]["pseudo_labels"]
    assert line == f"round 0: {shown[0]}; round 1 ({taken} pseudo-labels): {shown[1]}"


def test_changed_texts_or_options_are_refused(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(self_train._Rounds, "_pseudo_labels", lambda self, number: pseudo_labels(tmp_path))
    monkeypatch.setattr(jaxft.train, "train", lambda config, **_: {"eval/accuracy": 0.5, "eval/loss": 1.0})
    config, path = make_config(tiny_model, tmp_path), tmp_path / "unlabelled.csv"
    before, results = path.read_bytes(), run(config)
    path.write_bytes(before + b"a river,calm\n")
    with pytest.raises(UserError, match=r"unlabelled.csv has changed.*put the old ones back"):
        run(config)
    path.write_bytes(before)
    with pytest.raises(UserError, match=r"threshold \(0.6 there, 0.7 here\)"):
        run(config, replace(OPTIONS, threshold=0.7))
    with pytest.raises(UserError, match=r"seed \(0 there, 1 here\)"):
        run(replace(config, seed=1))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UserError, match=r"holds files but no series.json of jaxft self_train"):
        run(replace(config, output_dir=str(tmp_path / "other")))
    monkeypatch.setattr(jaxft.train, "train", None)
    assert run(config) == results  # the finished rounds are not trained again
    tiny.write_rows(tmp_path / "train.csv", 41)
    with pytest.raises(UserError, match=r"data.train: .*train.csv has changed"):
        run(config)


def test_a_student_may_start_from_the_previous_round(tiny_model, tmp_path, monkeypatch):
    config = make_config(tiny_model, tmp_path, data={"validation": None, "validation_share": 0.25})
    seen = []
    monkeypatch.setattr(jaxft.train, "train", lambda config, **_: seen.append(config) or {})
    monkeypatch.setattr(self_train._Rounds, "_pseudo_labels", lambda self, number: pseudo_labels(tmp_path))
    run(config, replace(OPTIONS, student="previous"))
    first, second = seen
    assert (first.model.path, second.model.path) == (str(tiny_model), str(tmp_path / "out" / "round-0" / "model"))
    held = read_jsonl(tmp_path / "out" / "validation.jsonl")  # of the labelled rows alone, the same in all rounds
    assert len(held) == 10
    assert len(read_jsonl(tmp_path / "out" / "labelled.jsonl")) == 30
    for config in seen:
        assert (config.data.validation, config.data.validation_share) == (str(tmp_path / "out" / "validation.jsonl"), 0)


def test_without_any_pseudo_label_the_rounds_end(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(self_train._Rounds, "_pseudo_labels", lambda self, number: tmp_path / "none")
    monkeypatch.setattr(jaxft.train, "train", lambda config, **_: {"eval/accuracy": 0.5})
    (tmp_path / "none").touch()
    results = run(make_config(tiny_model, tmp_path))
    assert [row["scores"] for row in results] == [{"eval/accuracy": 0.5}]
    assert "round 1: no text reaches the probability 0.6; this ends the rounds" in capsys.readouterr().err


def test_pseudo_labels_are_counted_by_class(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(self_train._Rounds, "_pseudo_labels", lambda self, number: pseudo_labels(tmp_path))
    monkeypatch.setattr(jaxft.train, "train", lambda config, **_: {"eval/accuracy": 0.5})
    first, second = run(make_config(tiny_model, tmp_path))
    counts = {label: 2 if label == "calm" else 0 for label in tiny.LABELS}
    assert second == {"scores": {"eval/accuracy": 0.5}, "pseudo_labels": 2, "pseudo_labels_by_class": counts}
    assert "pseudo_labels_by_class" not in first
    said = capsys.readouterr().err
    assert f"round 1: 2 pseudo-labels in {tmp_path / 'pseudo.jsonl'}: " in said
    assert ", ".join(f"{label} {count}" for label, count in counts.items()) in said
    none = ", ".join(label for label in tiny.LABELS if label != "calm")
    assert f"round 1: 2 of 3 classes get no pseudo-label ({none}); a lower --threshold may give them some" in said


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bits(tiny_model, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}

    def start(name: str) -> subprocess.Popen:
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            (folder / "config.yaml").write_text(cli.dump(make_config(tiny_model, folder)), encoding="utf-8")
        argv = [folder / "config.yaml", "--unlabelled", folder / "unlabelled.csv", "--rounds", 2, "--threshold", 0.5]
        argv = [sys.executable, "-m", "jaxft.self_train", *map(str, argv)]
        return subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    out = tmp_path / "killed" / "out"
    moments = ["labelled.jsonl", "round-0/checkpoints/20", "round-0.json", "pseudo_labels-1.jsonl", "round-1/checkpoints/20"]
    moments += ["round-1.json", "round-2/model"]
    for moment in moments:
        process = start("killed")
        while not (out / moment).exists() and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "round-2.json").exists()
    assert start("killed").wait() == start("whole").wait() == 0
    for name in (f"round-0/{MODEL}", "pseudo_labels-1.jsonl", f"round-1/{MODEL}", f"round-2/{MODEL}", "round-2.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / "out" / name).read_bytes()


def test_rows_of_a_data_set_become_files(tiny_model, tmp_path, monkeypatch):
    """Its splits have other names than files; labels are numbers there and names in the files."""
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["calm", "angry"])})
    splits = {name: {"text": ["lake", "storm", "sun\u2028set"], "label": [0, 1, 0]} for name in ("train", "dev", "test")}
    made = {name: datasets.Dataset.from_dict(rows, features) for name, rows in splits.items()}
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "unlabelled.csv").write_text("text\nriver\n")
    data = {"dataset": str(tmp_path / "saved"), "train": "train", "validation": "dev", "test": "test"}
    seen = []
    monkeypatch.setattr(jaxft.train, "train", lambda config, **_: seen.append(config) or {})
    monkeypatch.setattr(self_train._Rounds, "_pseudo_labels", lambda self, number: pseudo_labels(tmp_path))
    run(tiny.run_config(tiny_model, tmp_path, tmp_path / "out", data=data))
    assert [len(config.data.train) for config in seen] == [1, 2]
    found = read_labelled(seen[0])
    assert found.rows.task.labels == ("calm", "angry")
    expected = [{"text": text, "label": ["calm", "angry"][i]} for text, i in zip(*splits["dev"].values(), strict=True)]
    assert [found.json_rows(split) for split in ("train", "validation", "test")] == [expected] * 3


def test_texts_with_a_label_get_no_pseudo_label(tiny_model, tmp_path, monkeypatch, capsys):
    config = make_config(tiny_model, tmp_path)
    with open(str(config.data.train), newline="", encoding="utf-8") as file:
        known = [row["text"] for row in csv.DictReader(file)]
    path = tmp_path / "unlabelled.csv"
    path.write_text("\n".join(["text", *known, "an old river"]) + "\n", encoding="utf-8")
    seen = []

    class Stop(Exception):
        pass

    def stop(self):
        seen.append(list(self.unlabelled["text"]))
        raise Stop

    monkeypatch.setattr(self_train._Rounds, "all", stop)
    with pytest.raises(Stop):
        run(config)
    assert seen == [["an old river"]]
    assert f"{len(known)} texts that have a label are left out" in capsys.readouterr().err
    path.write_text("\n".join(["text", *known]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="every text has a label"):
        run(replace(config, output_dir=str(tmp_path / "other")))
