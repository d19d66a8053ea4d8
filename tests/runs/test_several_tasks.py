"""Runs of several tasks: scores and a model of each, resumed runs, and commands that take the name of a task."""

import json
from pathlib import Path

import numpy as np
import pytest

import jaxft
from jaxft import evaluate, export, predict
from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.run.setup import make_run
from jaxft.train import train
from tests.support import read_jsonl, several
from tests.support.resuming import copy_run_at, journal, kill_repeatedly

NAMES = ["moods", "tags", "words"]
WEIGHTS = "model.safetensors"
# With dropout, a task whose validation data are its own training rows, and shares that follow evaluations.
SECTIONS = {
    "model": {"dropout": 0.1, "num_layers": 1},
    "train": {"epochs": 4, "batch_size": 16},
    "sampling": {"sampler": "validation"},
    "eval": {"every": 5},
    "checkpoint": {"every": 9, "keep": 9, "select": "last"},
    "log": {"every": 1, "progress": False},
    "changes": {
        "moods": {"data": {"validation": None, "validation_share": 0.2}},
        "words": {"data": {"max_train_examples": 12}},
    },
}


def configure(model: Path, folder: Path, output: Path, **sections):
    return several.configure(model, folder, output, NAMES, **{**SECTIONS, **sections})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return several.write_files(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def done(tiny_model, folder, tmp_path_factory):
    """(directory, results) of a finished run."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    return directory, train(configure(tiny_model, folder, directory))


def test_each_task_has_scores_predictions_and_an_ordinary_model(done):
    directory, results = done
    assert {"eval/loss", "eval/score", "eval/moods/accuracy", "eval/tags/f1", "eval/words/perplexity"} <= results.keys()
    parts = results["eval/moods/accuracy"], results["eval/tags/f1"], 1 / results["eval/words/perplexity"]
    assert results["eval/score"] == pytest.approx(np.mean(parts))
    assert results["eval/loss"] == pytest.approx(sum(results[f"eval/{name}/loss"] for name in NAMES))
    row = next(row for row in read_jsonl(directory / "metrics.jsonl") if "eval/score" in row)
    assert "eval/tags/accuracy" in row
    assert sorted(path.name for path in (directory / "model").iterdir()) == sorted(NAMES)
    heads = {"moods": "BertForSequenceClassification", "tags": "BertForTokenClassification", "words": "BertForMaskedLM"}
    for name, head in heads.items():
        config = json.loads((directory / "model" / name / "config.json").read_text())
        assert config["architectures"] == [head]
        assert f"# {name}" in (directory / "model" / name / "README.md").read_text()
    assert len(read_jsonl(directory / "predictions/moods/validation.jsonl")) == 8
    assert "Confusions of tags" in (directory / "report.html").read_text()
    found = jaxft.pipeline(directory / "model" / "moods")("storm over the river")
    assert found[0]["label"] in ("angry", "calm", "merry")


@pytest.mark.parametrize("name", ["moods", "tags", pytest.param("words", marks=pytest.mark.slow)])
def test_evaluate_takes_the_name_of_a_task(done, name):
    """The model of a task alone has the scores that it had in the run, also on the rows that the run set aside."""
    directory, results = done
    scores = evaluate.main([str(directory), "--task", name])
    for metric in ("loss", "accuracy"):
        assert scores[metric] == pytest.approx(results[f"eval/{name}/{metric}"], rel=1e-5)


def test_the_trainer_takes_the_name_of_a_task(done, tiny_model, folder, tmp_path):
    directory, results = done
    trainer = jaxft.Trainer(configure(tiny_model, folder, directory))
    assert trainer.evaluate(task="moods")["accuracy"] == results["eval/moods/accuracy"]
    rows = [{"text": "storm over the river", "label": "angry"}]
    assert trainer.predict(rows, task="moods")[0]["label"] in ("angry", "calm", "merry")
    trainer.save(tmp_path / "copy", task="tags")
    assert (tmp_path / "copy" / WEIGHTS).is_file()
    with pytest.raises(UserError, match="has no task moodz; its tasks are moods, tags, words"):
        trainer.save(tmp_path / "other", task="moodz")
    with pytest.raises(UserError, match="a run of several tasks: name one of moods, tags, words"):
        trainer.predict(rows)
    tasks = [{"name": name, "data": {"train": rows}} for name in ("one", "other")]
    own = jaxft.Trainer(tasks=tasks, model={"path": str(tiny_model)}).config
    assert own.tasks[0].data["train"].endswith(".parquet")


def test_predict_takes_the_name_of_a_task(done, folder, tmp_path, fails):
    directory, _ = done
    output = tmp_path / "out.jsonl"
    (tmp_path / "in.txt").write_text("storm over the river\n")
    predict.main([str(directory), "--task", "tags", "--input", str(tmp_path / "in.txt"), "--output", str(output)])
    assert len(read_jsonl(output)[0]["tags"]) == 4
    argv = [directory, "--input", folder / "dev.csv", "--output", output]
    fails("predict", argv, "a run of several tasks", "moods, tags, words", "--task")
    fails("predict", [*argv, "--task", "moodz"], "--task moodz", "its tasks are moods, tags, words")
    fails("predict", [directory / "model" / "tags", *argv[1:], "--task", "foo"], "--task foo")
    fails("predict", [f"{directory}_", *argv[1:], "--task", "tags"], "no such directory")
    fails("predict", [directory / "model" / "tags", *argv[1:], "--task", "moods"], "--task moods", "is the model of tags")


def test_export_needs_no_data(done, tiny_model, folder, tmp_path):
    """The record of the run has the labels of every task."""
    directory, _ = done
    moved = tmp_path / "moved"
    copy_run_at(10**6, directory, moved)
    values = cli.read_yaml(moved / "config.yaml")
    for element in values["tasks"]:
        element["data"]["train"] = str(tmp_path / "gone.csv")
    (moved / "config.yaml").write_text(json.dumps(values))
    export.main([str(moved), "--output", str(tmp_path / "out")])
    for name in NAMES:
        for file in (WEIGHTS, "config.json"):
            assert (tmp_path / "out" / name / file).read_bytes() == (directory / "model" / name / file).read_bytes()


@pytest.mark.parametrize("step", [pytest.param(9, marks=pytest.mark.slow), 18])
def test_a_resumed_run_draws_the_same_examples(done, tiny_model, folder, tmp_path, step):
    directory, _ = done
    copy_run_at(step, directory, tmp_path / "half")
    train(configure(tiny_model, folder, tmp_path / "half"))
    for name in NAMES:
        assert (tmp_path / "half/model" / name / WEIGHTS).read_bytes() == (directory / "model" / name / WEIGHTS).read_bytes()
    assert journal(tmp_path / "half") == journal(directory)


def test_shares_follow_evaluations(done, tiny_model, folder):
    """Epochs 0 and 1 are proportional; later ones have more examples of small tasks with low scores."""
    directory, _ = done
    run = make_run(configure(tiny_model, folder, directory))
    evaluations = [row for row in read_jsonl(directory / "metrics.jsonl") if "eval/score" in row and "final" not in row]
    recorded = []
    for row in evaluations:
        scores = {name.removeprefix("eval/"): x for name, x in row.items()}
        recorded = run.task_scores.add(row["step"], run.task.qualities(scores))
    run.task_scores.reach(run.total_steps)
    assert len({(step - 1) // run.steps_per_epoch for step, _ in recorded}) == len(recorded)
    counts = [run.sampler.orders.counts(epoch).tolist() for epoch in range(4)]
    assert counts[0] == counts[1]
    assert counts[0] == [6, 8, 2]
    assert counts[2][2] > counts[2][0]


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(done, tiny_model, folder, tmp_path):
    directory, _ = done
    config = configure(tiny_model, folder, tmp_path / "killed")
    kill_repeatedly(config, (3, 13))
    train(config)
    assert journal(tmp_path / "killed") == journal(directory)
    for name in NAMES:
        found = (tmp_path / "killed/model" / name / WEIGHTS).read_bytes()
        assert found == (directory / "model" / name / WEIGHTS).read_bytes()
