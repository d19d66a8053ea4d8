"""Evaluation counts every example once, on any number of devices, and scores as scikit-learn does."""

import csv
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

import jaxft
from jaxft.config import Config, MeshConfig
from jaxft.data.tokens.encode import Examples
from jaxft.evaluation import inference
from jaxft.evaluation.evaluator import Evaluator, make_evaluator
from jaxft.parallel import sharding
from jaxft.run.loss import make_loss
from jaxft.run.setup import Run, eval_sampler, make_run
from jaxft.step.parameters import Parameters
from jaxft.tasks import text_classification
from jaxft.tasks.metrics.classification import SparseConfusion, classification_scores
from tests.support import tiny


def write_rows(path: Path, labels: list[str], rows: int) -> Path:
    rng = random.Random(7)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(rows):
            label = labels[i] if i < len(labels) else rng.choice(labels)
            writer.writerow([" ".join(rng.choices([*tiny.WORDS, *tiny.CLUES.values()], k=rng.randint(1, 20))), label])
    return path


def open_run(folder: Path, labels: list[str], rows: int = 61) -> Run:
    """A random classifier, far from its initial values so that it predicts every label, and data for it."""
    model = tiny.write_model(folder / "model", labels=labels, seed=3, initializer_range=1.0)
    data = write_rows(folder / "dev.csv", labels, rows)
    files = {"train": str(data), "validation": str(data)}
    return make_run(tiny.run_config(model, folder, folder / "run", data=files))


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Run:
    return open_run(tmp_path_factory.mktemp("three"), tiny.LABELS)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Run:
    return open_run(tmp_path_factory.mktemp("two"), ["calm", "merry"])


def direct(run: Run) -> tuple[np.ndarray, np.ndarray, float]:
    """(gold, logits, loss) from plain forward passes over single padded rows."""
    examples = run.data["validation"].examples
    logits = []
    for start, stop in zip(examples.offsets, examples.offsets[1:], strict=False):
        ids, mask = np.zeros((2, 1, 32), np.int32)
        ids[0, : stop - start] = examples.tokens["input_ids"][start:stop]
        mask[0, : stop - start] = 1
        logits.append(jaxft.forward(run.model, run.params, {"input_ids": ids, "attention_mask": mask})["logits"][0])
    logits = np.array(logits, np.float64)
    gold = examples.columns["labels"]
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return gold, logits, float(-logs[np.arange(len(gold)), gold].mean())


def right_scores(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    scores = {
        "accuracy": metrics.accuracy_score(gold, predicted),
        "macro_f1": metrics.f1_score(gold, predicted, average="macro"),
        "micro_f1": metrics.f1_score(gold, predicted, average="micro"),
        "mcc": metrics.matthews_corrcoef(gold, predicted),
    }
    return scores | ({"f1": metrics.f1_score(gold, predicted)} if gold.max() == 1 else {})


def evaluator(run: Run, layout: str, batch_size: int, devices: int) -> tuple[Evaluator, Parameters]:
    mesh = sharding.make_mesh(MeshConfig(devices))
    config = replace(
        run.config,
        data=replace(run.config.data, layout=layout, shapes=2),
        eval=replace(run.config.eval, batch_size=batch_size),
    )
    data = run.data["validation"]
    params = Parameters(sharding.device_put(run.params, sharding.param_shardings(mesh, run.params)))
    sampler = eval_sampler(data.examples, config, mesh)
    loss = make_loss(run.model, run.task)
    return make_evaluator(run.task, loss, data, sampler, params, mesh, lambda _: None), params


@pytest.mark.parametrize(
    ("layout", "batch_size", "devices"),
    [("pack", 128, 1), ("pack", 7, 8), ("bucket", 16, 1), ("bucket", 128, 8), ("pad", 61, 1), ("pad", 8, 8), ("pack", 1, 1)],
)
def test_scores_of_three_labels_are_scikit_learns(three, layout, batch_size, devices):
    gold, logits, loss = direct(three)
    predicted = logits.argmax(-1)
    assert len(set(predicted)) == 3
    made, params = evaluator(three, layout, batch_size, devices)
    scores = made.scores(params)
    assert scores.pop("confusion") == metrics.confusion_matrix(gold, predicted).tolist()  # every example once
    assert scores.pop("confusion_labels") == list(tiny.LABELS)
    assert scores.pop("loss") == pytest.approx(loss, rel=1e-5)
    columns = np.transpose(metrics.precision_recall_fscore_support(gold, predicted, zero_division=0))
    assert [[*row.values()] for row in scores["labels"].values()] == [pytest.approx(row, rel=1e-12) for row in columns]
    assert list(scores.pop("labels")) == tiny.LABELS
    assert scores == pytest.approx(right_scores(gold, predicted), rel=1e-12)
    assert made.scores(params)["accuracy"] == scores["accuracy"]


@pytest.mark.parametrize(("count", "batches"), [(3000, 24), (260, 3), (5, 1)])
def test_packed_evaluation_computes_little_padding(count, batches):
    """Lengths differ by a factor of ten; the last batch is not mostly empty."""
    lengths = np.clip(np.random.default_rng(0).lognormal(3, 0.7, count), 6, 128).astype(np.int64)
    examples = Examples({}, np.concatenate([[0], np.cumsum(lengths)]), {})
    config = replace(Config(), eval=replace(Config().eval, batch_size=128))
    sampler = eval_sampler(examples, config, sharding.make_mesh(MeshConfig(1)))
    assert (sampler.steps_per_epoch, len(sampler.shapes)) == (batches, 1)
    assert sampler.epoch_batches(0).fill() > 0.85


@pytest.mark.parametrize("devices", [1, 8])
def test_scores_of_two_labels_are_scikit_learns(two, devices):
    gold, logits, _ = direct(two)
    predicted = logits.argmax(-1)
    assert len(set(predicted)) == 2
    made, params = evaluator(two, "pack", 16, devices)
    tables = ("loss", "confusion", "confusion_labels", "labels")
    scores = {name: x for name, x in made.scores(params).items() if name not in tables}
    area = {"roc_auc": metrics.roc_auc_score(gold, logits[:, 1] - logits[:, 0])}
    assert scores == pytest.approx(right_scores(gold, predicted) | area, rel=1e-12)


def counted(gold: np.ndarray, predicted: np.ndarray, labels: int) -> dict[str, float]:
    scores = classification_scores(SparseConfusion.count(gold, predicted, labels))
    matrix = metrics.confusion_matrix(gold, predicted, labels=range(labels))
    assert classification_scores(SparseConfusion.of_matrix(matrix)) == pytest.approx(scores, rel=1e-12)
    return scores


@pytest.mark.parametrize("labels", [2, 3, 7])
def test_scores_of_random_predictions_are_scikit_learns(labels):
    rng = np.random.default_rng(labels)
    gold, predicted = rng.integers(0, labels, (2, 200))
    predicted[:90] = gold[:90]
    scores = counted(gold, predicted, labels)
    assert scores == pytest.approx(right_scores(gold, predicted), rel=1e-12)


MACRO = {"zero_division": 0.0, "average": "macro"}
EXTREME = {
    "all wrong": ([0, 1, 2, 0], [1, 2, 0, 2]),
    "all right": ([0, 1, 2, 0], [0, 1, 2, 0]),
    "one answer": ([0, 1, 2, 0], [1, 1, 1, 1]),
    "one gold label": ([2, 2, 2, 2], [0, 1, 2, 2]),
    "a label nobody has": ([0, 1, 0, 1], [1, 1, 0, 0]),
    "one example": ([1], [1]),
}


@pytest.mark.parametrize("name", EXTREME)
@pytest.mark.filterwarnings("error")
def test_scores_of_extreme_predictions_are_scikit_learns(name):
    gold, predicted = map(np.array, EXTREME[name])
    scores = counted(gold, predicted, 3)
    assert scores["accuracy"] == np.mean(gold == predicted)
    assert scores["micro_f1"] == pytest.approx(np.mean(gold == predicted))
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(gold, predicted, **MACRO))
    assert -1 <= scores["mcc"] <= 1
    assert (scores["mcc"] == 1) == (name == "all right")


@pytest.mark.parametrize(("gold", "predicted"), [([0, 0], [0, 0]), ([1, 1], [1, 1]), ([1, 0], [0, 0]), ([0, 0], [1, 1])])
def test_binary_f1_where_a_side_is_missing(gold, predicted):
    scores = counted(np.array(gold), np.array(predicted), 2)
    assert scores["f1"] == metrics.f1_score(gold, predicted, zero_division=0.0)


def test_the_collected_sums_do_not_grow_with_the_examples(three):
    """For three labels they are a confusion matrix, the loss and its weight."""
    made, params = evaluator(three, "pack", 16, 1)
    summary = made.collect(params)
    assert {name: x.shape for name, x in summary.sums.items()} == {"confusion": (3, 3), "loss": (), "weight": ()}
    assert not summary.examples
    assert not summary.tokens


@pytest.mark.parametrize(
    ("problem_type", "problem"),
    [
        ("multi_label_classification", "multi_label"),
        ("regression", "regression"),
        ("single_label_classification", "single_label"),
    ],
)
def test_a_model_directory_tells_its_problem(tmp_path, problem_type, problem):
    """Without a run around it, a model of several labels or of numbers is evaluated as such."""
    model = tiny.write_model(tmp_path / "model", labels=tiny.LABELS, problem_type=problem_type)
    assert inference.config_with_task(str(model), Config()).task.problem == problem


def test_many_labels_are_counted_without_a_matrix(three, monkeypatch):
    made, params = evaluator(three, "pack", 16, 1)
    right = made.scores(params)
    monkeypatch.setattr(text_classification, "MAX_DENSE_LABELS", 2)
    made, params = evaluator(three, "pack", 16, 1)
    summary = made.collect(params)
    assert set(summary.sums) == {"loss", "weight"}
    assert summary.examples["predicted"].shape == (61,)
    scores = made.scores(params)
    for table in ("confusion", "confusion_labels", "labels"):
        assert scores.pop(table) == right.pop(table)
    assert scores == pytest.approx(right, rel=1e-12)
