"""Text classification beyond one label a text: reading, weights, layouts, whole runs, and what is said of bad input."""

import csv
import json
import random
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import datasets
import jax
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.utils.class_weight import compute_class_weight

import jaxft
from jaxft import cli, evaluate, optim, predict, runtime
from jaxft.config import DataConfig
from jaxft.distill import NAME, TEACHERS
from jaxft.errors import UserError
from jaxft.setup import make_run, run_loss
from jaxft.step import init_state, train_step
from jaxft.tasks import labels
from jaxft.train import train
from tests import tiny
from tests.test_equivalence import RECORDER, assert_same, gradients, rearranged

COLUMNS = {"joy": "song", "calm": "lake", "storm": "storm"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """train.csv (60 rows) and dev.csv (24): text, its labels as text, as columns of 0 and 1, and two numbers."""
    folder, rng = tmp_path_factory.mktemp("classes"), random.Random(0)
    for name, rows in (("train", 60), ("dev", 24)):
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "tags", *COLUMNS, "length", "songs"])
            for _ in range(rows):
                given = [label for label in COLUMNS if rng.random() < 0.4]
                words = [*rng.choices(tiny.WORDS, k=rng.randint(1, 8)), *(COLUMNS[label] for label in given)]
                rng.shuffle(words)
                hot = [int(label in given) for label in COLUMNS]
                songs = rng.random() + hot[0]
                writer.writerow([" ".join(words), " | ".join(given), *hot, len(words) / 8, f"{songs:.3f}"])
    return folder


MULTI = {"task": {"problem": "multi_label"}, "data": {"label": "tags", "label_separator": "|"}}
TARGETS = {"task": {"problem": "regression"}, "data": {"label": ["length", "songs"]}}


def configure(model: Path, folder: Path, output: Path, base: dict, /, **sections):
    merged = {name: {**base.get(name, {}), **sections.get(name, {})} for name in base.keys() | sections.keys()}
    return tiny.run_config(model, folder, output, **merged)


# Labels


def lists(column, **options) -> list[list[str]]:
    rows = column if isinstance(column, datasets.Dataset) else datasets.Dataset.from_dict({"label": column})
    return labels.label_lists(rows, DataConfig(**options), "x.csv")


def test_labels_of_a_list_of_text_and_of_columns_are_the_same():
    right = [["a", "b"], [], ["c"]]
    assert lists(right) == right
    assert lists(["a, b", "", " c,"], label_separator=",") == right
    columns = {"a": [1, 0, 0], "b": ["1", "0", "0"], "c": [0.0, 0.0, 1.0]}
    assert lists(datasets.Dataset.from_dict(columns), label=list(columns)) == right
    names = datasets.Features(label=datasets.List(datasets.ClassLabel(names=["a", "b", "c"])))
    assert lists(datasets.Dataset.from_dict({"label": [[0, 1], [], [2]]}, features=names)) == right
    assert labels.multi_hot(right, ["c", "b", "a"], "x").tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("column", "options", "words"),
    [
        (["a", "b"], {}, "row 1 has 'a' in column \"label\": must be a list of labels, or text with data.label_separator"),
        ([["a"], None], {}, "row 2 has None"),
        ([["a"], ["b", ""]], {}, "row 2 has an empty label"),
        (datasets.Dataset.from_dict({"a": [1, 0], "b": [0, 2]}), {"label": ["a", "b"]}, 'row 2 has "2" in column "b"'),
    ],
)
def test_bad_label_lists(column, options, words):
    with pytest.raises(UserError) as stop:
        lists(column, **options)
    assert str(stop.value).startswith("x.csv: ")
    assert words in str(stop.value)


def test_an_unknown_label_of_a_list_names_its_row():
    with pytest.raises(UserError, match='row 3 has the label "z"'):
        labels.multi_hot([["a", "b"], [], ["b", "z"]], ["a", "b"], "x")


@pytest.mark.parametrize("value", ["high", None, "nan", float("inf"), ""])
def test_targets_are_numbers(value):
    rows = datasets.Dataset.from_dict({"x": ["1.5", "2"], "y": ["0", value] if isinstance(value, str) else [0.0, value]})
    assert labels.numbers(rows, ["x"], "f").tolist() == [[1.5], [2.0]]
    with pytest.raises(UserError, match=r'f: row 2 has .* in column "y": must be a number'):
        labels.numbers(rows, ["x", "y"], "f")


# Class weights


def test_balanced_weights_are_scikit_learns(tiny_model, folder, tmp_path):
    task = {"task": {"class_weights": "balanced"}, "data": {"label": "joy"}}
    run = make_run(configure(tiny_model, folder, tmp_path / "one", {}, **task))
    gold = run.data["train"].examples.columns["labels"]
    right = compute_class_weight("balanced", classes=np.arange(2), y=gold)
    assert right[0] != right[1]
    np.testing.assert_allclose(run.task.class_weights, right, rtol=1e-12)
    run = make_run(configure(tiny_model, folder, tmp_path / "many", MULTI, task={"class_weights": "balanced"}))
    hot = run.data["train"].examples.columns["labels"]
    for c, weight in enumerate(run.task.positive_weights):
        without, having = compute_class_weight("balanced", classes=np.arange(2), y=hot[:, c])
        assert weight == pytest.approx(having / without)


def test_a_label_without_examples_is_no_reason_to_stop():
    assert labels.class_weights("balanced", ["a", "b", "c"], np.array([3, 0, 1])) == pytest.approx((2 / 3, 1, 2))
    assert labels.class_weights("balanced", ["a", "b"], np.array([3, 0]), total=4) == pytest.approx((1 / 3, 1))


def test_a_step_with_tiny_class_weights_is_a_step_with_large_ones(tiny_model, folder, tmp_path):
    """The mean is weighted, so that only ratios count."""
    found = []
    for scale in (1.0, 1e-3):
        task = {"class_weights": [2 * scale, 0.5 * scale], "focal_gamma": 1.5}
        sections = {"task": task, "data": {"label": "joy"}, "train": {"label_smoothing": 0.1}}
        run = make_run(
            configure(
                tiny_model, folder, tmp_path / "run", {}, model=tiny.NO_DROPOUT | {"path": str(tiny_model)}, **sections
            )
        )
        batch = {name: np.asarray(x) for name, x in run.planner.plan_epoch(0).batch(run.data["train"].examples, 0).items()}
        state = init_state(run.params, RECORDER, runtime.root_key(0), optim.hyperparameters(run.config.optim))
        state, scores = jax.jit(partial(train_step, loss_fn=run_loss(run), optimizer=RECORDER))(state, {}, batch)
        found.append((float(scores["loss"]), float(scores["grad_norm"])))
        assert float(scores["weight"]) == pytest.approx(sum(task["class_weights"][y] for y in labels_of(batch)), rel=1e-5)
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def labels_of(batch: dict) -> list[int]:
    return batch["labels"][batch["weights"] == 1].tolist()


# Layouts


@pytest.mark.parametrize(
    "base",
    [
        MULTI | {"task": {"problem": "multi_label", "focal_gamma": 2.0, "class_weights": "balanced"}},
        TARGETS,
        {
            "task": {"class_weights": [0.2, 3.0], "focal_gamma": 1.0},
            "train": {"label_smoothing": 0.1},
            "data": {"label": "joy"},
        },
    ],
    ids=["multi_label", "regression", "weighted focal"],
)
def test_gradients_do_not_depend_on_the_layout(tiny_model, folder, tmp_path, base):
    model = {"path": str(tiny_model), "num_layers": 1, **tiny.NO_DROPOUT}
    data = {"validation": None}
    run = make_run(configure(tiny_model, folder, tmp_path / "run", base, model=model, data=data, train={"batch_size": 9}))
    assert_same(rearranged(run, micro_batches=2, data=4, fsdp=2), gradients(rearranged(run, "pad")))


# Whole runs


def table(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def predictions(directory: Path, source: Path, output: Path) -> list[dict]:
    predict.main([str(directory), "--input", str(source), "--output", str(output)])
    return [json.loads(line) for line in output.read_text().splitlines()]


def resumed(config, keep: int) -> None:
    """Run again from an earlier checkpoint; the model that it leaves must be the same."""
    directory = Path(config.output_dir)
    weights = (directory / "model/model.safetensors").read_bytes()
    settings = (directory / "model/config.json").read_text()
    steps = sorted((int(p.name), p) for p in (directory / "checkpoints").iterdir() if p.name.isdigit())
    assert len(steps) > keep
    for _, path in steps[keep:]:
        shutil.rmtree(path)
    shutil.rmtree(directory / "model")
    train(config)
    assert (directory / "model/model.safetensors").read_bytes() == weights
    assert (directory / "model/config.json").read_text() == settings


def test_a_multi_label_run_from_training_to_pytorch(tiny_model, folder, tmp_path):
    sections = {
        "task": {"threshold": "tune"},
        "optim": {"learning_rate": 1e-2},
        "train": {"epochs": 10, "batch_size": 6},
        "checkpoint": {"every": 60, "select": "last"},
        "eval": {"every": 60, "batch_size": 8},
    }
    config = configure(tiny_model, folder, tmp_path / "run", MULTI, **sections)
    results = train(config)
    assert results["eval/micro_f1"] > 0.8
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

    rows, answers = table(folder / "dev.csv"), predictions(tmp_path / "run", folder / "dev.csv", tmp_path / "p.jsonl")
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
    resumed(config, keep=1)


def test_a_regression_run_from_training_to_pytorch(tiny_model, folder, tmp_path):
    sections = {"optim": {"learning_rate": 1e-2}, "train": {"epochs": 10, "batch_size": 6}, "eval": {"every": 50}}
    results = train(configure(tiny_model, folder, tmp_path / "run", TARGETS, **sections))
    assert results["eval/pearson"] > 0.5
    assert results["eval/mse"] == pytest.approx(results["eval/loss"], rel=1e-5)
    settings = json.loads((tmp_path / "run/model/config.json").read_text())
    assert (settings["problem_type"], settings["label2id"]) == ("regression", {"length": 0, "songs": 1})
    scores = evaluate.main([str(tmp_path / "run"), "--data.validation", str(folder / "dev.csv")])
    flat = cli.flatten(scores)
    assert flat == pytest.approx(cli.flatten({k.removeprefix("eval/"): v for k, v in results.items()}), rel=1e-5)
    rows, answers = table(folder / "dev.csv"), predictions(tmp_path / "run", folder / "dev.csv", tmp_path / "p.jsonl")
    for name in ("length", "songs"):
        gold, found = [float(row[name]) for row in rows], [answer["scores"][name] for answer in answers]
        assert flat[f"targets.{name}.pearson"] == pytest.approx(stats.pearsonr(gold, found).statistic, rel=1e-5)
        assert flat[f"targets.{name}.spearman"] == pytest.approx(stats.spearmanr(gold, found).statistic, rel=1e-5)
        assert flat[f"targets.{name}.mse"] == pytest.approx(metrics.mean_squared_error(gold, found), rel=1e-5)
    shares = np.array([list(answer["scores"].values()) for answer in answers])
    assert_pytorch(tmp_path / "run/model", [row["text"] for row in rows], lambda x: x, shares)


def assert_pytorch(directory: Path, texts: list[str], activation, right: np.ndarray) -> None:
    """PyTorch opens the model with nothing missing and says the same."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, info = AutoModelForSequenceClassification.from_pretrained(directory, output_loading_info=True)
    assert {name: list(x) for name, x in info.items() if x} == {}
    inputs = AutoTokenizer.from_pretrained(directory)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = activation(model.eval()(**inputs).logits).numpy()
    np.testing.assert_allclose(outputs, right, atol=1e-5 * np.abs(right).max())


def soft_loss(base: dict, student: np.ndarray, teacher: np.ndarray, temperature: float) -> np.ndarray:
    """Of each row, by its formula."""
    if base is TARGETS:
        return np.square(student - teacher).mean(-1)
    p, q = (1 / (1 + np.exp(-x.astype(np.float64) / temperature)) for x in (student, teacher))
    return -(q * np.log(p) + (1 - q) * np.log(1 - p)).mean(-1) * temperature**2


@pytest.mark.parametrize("base", [MULTI, TARGETS], ids=["multi_label", "regression"])
def test_a_teacher_gives_its_share_of_the_loss(folder, tmp_path, base):
    names = list(TARGETS["data"]["label"] if base is TARGETS else sorted(COLUMNS))
    student, teacher = (
        tiny.write_model(tmp_path / name, labels=names, seed=seed, initializer_range=1.0)
        for seed, name in enumerate(("student", "teacher"))
    )
    found = []
    for distill in ({}, {"teacher": str(teacher), "alpha": 0.7, "temperature": 3.0}):
        model = {"path": str(student), **tiny.NO_DROPOUT}
        run = make_run(configure(student, folder, tmp_path / "run", base, model=model, distill=distill))
        examples = run.data["train"].examples
        batch = {name: x[0] for name, x in run.planner.plan_epoch(0).batch(examples, 0).items()}
        params = run.params | ({TEACHERS: {NAME: run.teacher[1]}} if run.teacher else {})
        (total, weight), _ = jax.jit(run_loss(run))(params, batch, runtime.root_key(0), {})
        found.append(float(total / weight))
    ids, mask = np.zeros((2, len(examples), 32), np.int32)
    for i, (start, stop) in enumerate(zip(examples.offsets, examples.offsets[1:], strict=False)):
        ids[i, : stop - start], mask[i, : stop - start] = examples.tokens["input_ids"][start:stop], 1
    chosen = batch["example"][batch["example"] >= 0]
    inputs = {"input_ids": ids[chosen], "attention_mask": mask[chosen]}
    logits = [jaxft.forward(*jaxft.load(str(path)), inputs)["logits"] for path in (student, teacher)]
    soft = soft_loss(base, *logits, 3.0).mean()
    assert abs(soft - found[0]) > 0.01
    assert found[1] == pytest.approx(0.3 * found[0] + 0.7 * soft, rel=1e-5)


def test_a_model_of_hugging_face_without_a_threshold_takes_the_option(tiny_model):
    from jaxft.tasks import task_class

    hf_config = {"id2label": {"0": "a", "1": "b"}, "problem_type": "multi_label_classification"}
    config = cli.parse({"task": {"problem": "multi_label", "threshold": 0.3}}, [], origin="", prog="")
    task = task_class(config)
    assert task.restore(config, hf_config).threshold == 0.3
    stored = hf_config | {"task_specific_params": {"jaxft": {"threshold": 0.7}}}
    assert task.restore(config, stored).threshold == 0.7
    tuned = replace(config, task=replace(config.task, threshold="tune"))
    assert task.restore(tuned, hf_config).threshold == 0.5


@pytest.mark.parametrize(
    ("hf_config", "problem"),
    [
        ({"problem_type": "multi_label_classification"}, "multi_label"),
        ({"problem_type": "regression"}, "regression"),
        ({"id2label": {"0": "LABEL_0"}}, "regression"),
        ({"id2label": {"0": "LABEL_0"}, "problem_type": "multi_label_classification"}, "multi_label"),
        ({}, "single_label"),
    ],
)
def test_the_problem_of_a_model_is_read_as_hugging_face_reads_it(hf_config, problem):
    assert labels.problem_of(hf_config, "single_label") == problem


# Bad input


BAD = {
    "no separator": ({"task.problem": "multi_label"}, ["row 1", "data.label_separator"]),
    "smoothing": ({"task.problem": "regression", "train.label_smoothing": 0.1}, ["train.label_smoothing is 0.1"]),
    "words are no numbers": ({"task.problem": "regression"}, ["train.csv", "row 1", '"label"', "must be a number"]),
    "several columns": ({"data.label": "[label, text]"}, ["data.label names 2 columns"]),
    "tuning on nothing": (
        {"task.problem": "multi_label", "task.threshold": "tune", "data.label_separator": "|", "data.validation": None},
        ["task.threshold is tune", "data.validation"],
    ),
    "threshold of one label": ({"task.threshold": 0.4}, ["task.threshold is 0.4", "no such option"]),
    "threshold": ({"task.problem": "multi_label", "task.threshold": 1.5}, ["task.threshold is 1.5", "from 0 to 1"]),
    "weights": ({"task.class_weights": "[1, 2]"}, ["task.class_weights has 2 numbers", "3 labels"]),
    "negative weights": ({"task.class_weights": "[1, -2, 1]"}, ["task.class_weights", "0 or more"]),
    "gamma": ({"task.focal_gamma": -1}, ["task.focal_gamma is -1", "0 or more"]),
    "area of three labels": ({"eval.metric": "roc_auc"}, ["eval.metric is roc_auc", "two labels"]),
    "metric of another problem": ({"eval.metric": "pearson"}, ["eval.metric is pearson", "accuracy"]),
    "a column twice": ({"data.label": "[label, label]", "task.problem": "multi_label"}, ["data.label", "different columns"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(train_fails, case):
    changes, words = BAD[case]
    train_fails(changes, *words)


def test_evaluating_with_another_number_of_targets(fails, tmp_path):
    model = tiny.write_model(tmp_path / "m", labels=["a", "b"], problem_type="regression")
    (tmp_path / "d.csv").write_text("text,x\nriver,1\n")
    argv = [model, "--data.validation", tmp_path / "d.csv", "--data.label", "x", "--data.max_length", "32"]
    fails("evaluate", argv, "data.label names 1 columns (x)", "2 numbers (a, b)")
