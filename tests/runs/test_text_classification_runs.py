"""Runs with several labels and with numeric targets, from training to PyTorch."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from jaxft import evaluate, predict
from jaxft.config import cli
from jaxft.train import train
from tests.support import read_csv, read_jsonl
from tests.support.labelled_texts import MULTI, TARGETS, configure, write_files
from tests.support.result_files import predictions_of, share_right
from tests.support.resuming import assert_resumes_to_same_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_files(tmp_path_factory.mktemp("classes"))


def predictions(directory: Path, source: Path, output: Path) -> list[dict]:
    predict.main([str(directory), "--input", str(source), "--output", str(output)])
    return read_jsonl(output)


@pytest.mark.slow
def test_a_multi_label_run_from_training_to_pytorch(tiny_model, folder, tmp_path):
    sections = {
        "task": {"threshold": "tune"},
        "optim": {"learning_rate": 1e-2},
        "train": {"epochs": 24, "batch_size": 6},
        "checkpoint": {"every": 60, "select": "last"},
        "eval": {"every": 60, "batch_size": 8},
    }
    config = configure(tiny_model, folder, tmp_path / "run", MULTI, **sections)
    results = train(config)
    assert results["eval/micro_f1"] > 0.8
    assert share_right(tmp_path / "run") == pytest.approx(results["eval/subset_accuracy"])
    assert (
        json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])["eval/confusion"]
        == results["eval/confusion"]
    )
    settings = json.loads((tmp_path / "run/model/config.json").read_text())
    threshold = settings["task_specific_params"]["jaxft"]["threshold"]
    assert settings["problem_type"] == "multi_label_classification"
    assert 0 < threshold < 1
    assert threshold != 0.5

    argv = ["--data.validation", str(folder / "dev.csv")]
    scores = evaluate.main([str(tmp_path / "run"), *argv])
    assert scores.pop("confusion") == results.pop("eval/confusion")
    assert scores == pytest.approx({k.removeprefix("eval/"): v for k, v in results.items()}, rel=1e-5)
    options = ["--data.max_length=32", "--data.label=tags", "--data.label_separator=|"]
    again = evaluate.main([str(tmp_path / "run/model"), *argv, *options])
    assert {name: again[name] for name in scores} == pytest.approx(scores, rel=1e-5)

    rows, answers = read_csv(folder / "dev.csv"), predictions(tmp_path / "run", folder / "dev.csv", tmp_path / "p.jsonl")
    names = list(settings["label2id"])
    gold = np.array([[int(row[name]) for name in names] for row in rows])
    given = np.array([[name in answer["labels"] for name in names] for answer in answers])
    shares = np.array([[answer["scores"][name] for name in names] for answer in answers])
    assert (given == (shares >= threshold)).all()
    right = {
        "micro_f1": metrics.f1_score(gold, given, average="micro"),
        "macro_f1": metrics.f1_score(gold, given, average="macro"),
        "subset_accuracy": metrics.accuracy_score(gold, given),
        "roc_auc": metrics.roc_auc_score(gold, shares, average="macro"),
    }
    assert {name: scores[name] for name in right} == pytest.approx(right, rel=1e-12)
    assert_pytorch(tmp_path / "run/model", [row["text"] for row in rows], lambda x: x.sigmoid(), shares)
    assert_resumes_to_same_model(config, keep=1)


@pytest.mark.slow
def test_a_regression_run_from_training_to_pytorch(tiny_model, folder, tmp_path):
    sections = {"optim": {"learning_rate": 1e-2}, "train": {"epochs": 24, "batch_size": 6}, "eval": {"every": 50}}
    results = train(configure(tiny_model, folder, tmp_path / "run", TARGETS, **sections))
    assert results["eval/pearson"] > 0.5
    assert results["eval/mse"] == pytest.approx(results["eval/loss"], rel=1e-5)
    found = [(row["gold"][x], row["prediction"][x]) for row in predictions_of(tmp_path / "run") for x in row["gold"]]
    assert np.mean([(a - b) ** 2 for a, b in found]) == pytest.approx(results["eval/mse"], rel=1e-5)
    settings = json.loads((tmp_path / "run/model/config.json").read_text())
    assert (settings["problem_type"], settings["label2id"]) == ("regression", {"length": 0, "songs": 1})
    scores = evaluate.main([str(tmp_path / "run"), "--data.validation", str(folder / "dev.csv")])
    flat = cli.flatten(scores)
    assert flat == pytest.approx(cli.flatten({k.removeprefix("eval/"): v for k, v in results.items()}), rel=1e-5)
    rows, answers = read_csv(folder / "dev.csv"), predictions(tmp_path / "run", folder / "dev.csv", tmp_path / "p.jsonl")
    for name in ("length", "songs"):
        gold, found = [float(row[name]) for row in rows], [answer["scores"][name] for answer in answers]
        assert flat[f"targets.{name}.pearson"] == pytest.approx(stats.pearsonr(gold, found).statistic, rel=1e-5)
        assert flat[f"targets.{name}.spearman"] == pytest.approx(stats.spearmanr(gold, found).statistic, rel=1e-5)
        assert flat[f"targets.{name}.mse"] == pytest.approx(metrics.mean_squared_error(gold, found), rel=1e-5)
    shares = np.array([list(answer["scores"].values()) for answer in answers])
    assert_pytorch(tmp_path / "run/model", [row["text"] for row in rows], lambda x: x, shares)


def assert_pytorch(directory: Path, texts: list[str], activation, right: np.ndarray) -> None:
    """PyTorch loads the whole model and computes the same scores."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tests.support.zoo_torch import from_pretrained

    model = from_pretrained(AutoModelForSequenceClassification, directory)
    inputs = AutoTokenizer.from_pretrained(directory)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = activation(model(**inputs).logits).numpy()
    np.testing.assert_allclose(outputs, right, atol=1e-5 * np.abs(right).max())
