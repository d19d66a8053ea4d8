"""Text classification with several labels or numbers: reading, weights, layouts, teachers, and messages for bad input."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import datasets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

import jaxft
from jaxft import optim
from jaxft.config import DataConfig, cli
from jaxft.core import random_keys
from jaxft.core.errors import UserError
from jaxft.run import rundir
from jaxft.run.loss import make_loss, run_loss
from jaxft.run.setup import make_run
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import init_state, train_step
from jaxft.tasks import label_lists, labels
from jaxft.tasks.text_classification import TextClassification
from tests.support import tiny
from tests.support.labelled_texts import COLUMNS, MULTI, TARGETS, configure, write_files
from tests.support.row_names import rows_of
from tests.support.steps import RECORDER, assert_same, gradients, rearranged


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_files(tmp_path_factory.mktemp("classes"))


# Labels


def lists(column, **options) -> list[list[str]]:
    rows = column if isinstance(column, datasets.Dataset) else datasets.Dataset.from_dict({"label": column})
    return label_lists.label_lists(rows, DataConfig(**options), "x.csv")[0]


def test_labels_of_a_list_of_text_and_of_columns_are_the_same():
    right = [["a", "b"], [], ["c"]]
    assert lists(right) == right
    assert lists(["a, b", "", " c,"], label_separator=",") == right
    columns = {"a": [1, 0, 0], "b": ["1", "0", "0"], "c": [0.0, 0.0, 1.0]}
    assert lists(datasets.Dataset.from_dict(columns), label=list(columns)) == right
    names = datasets.Features(label=datasets.List(datasets.ClassLabel(names=["a", "b", "c"])))
    assert lists(datasets.Dataset.from_dict({"label": [[0, 1], [], [2]]}, features=names)) == right
    assert label_lists.multi_hot(right, ["c", "b", "a"], rows_of("x"))[0].tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("column", "options", "words"),
    [
        (["a", "b"], {}, "row 1 has 'a' in column \"label\": must be a list of labels, or text with data.label_separator"),
        ([["a"], None], {}, "row 2 has None"),
        ([["a"], ["b", ""]], {}, "row 2 has an empty label"),
        (datasets.Dataset.from_dict({"a": [1, 0], "b": [0, 2]}), {"label": ["a", "b"]}, 'row 2 has "2" in column "b"'),
    ],
)
def test_bad_label_lists_are_refused(column, options, words):
    with pytest.raises(UserError) as stop:
        lists(column, **options)
    assert str(stop.value).startswith("x.csv: ")
    assert words in str(stop.value)


def test_an_unknown_label_of_a_list_names_its_row():
    with pytest.raises(UserError, match='row 3 has the label "z"'):
        label_lists.multi_hot([["a", "b"], [], ["b", "z"]], ["a", "b"], rows_of("x"))


@pytest.mark.parametrize("value", ["high", None, "nan", float("inf"), ""])
def test_targets_must_be_numbers(value):
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


def test_a_label_without_examples_has_a_balanced_weight():
    assert labels.class_weights("balanced", ["a", "b", "c"], np.array([3, 0, 1])) == pytest.approx((2 / 3, 1, 2))
    assert labels.class_weights("balanced", ["a", "b"], np.array([3, 0]), total=4) == pytest.approx((1 / 3, 1))


def test_only_ratios_of_class_weights_matter(tiny_model, folder, tmp_path):
    """Because the loss is a weighted mean."""
    found = []
    for scale in (1.0, 1e-3):
        task = {"class_weights": [2 * scale, 0.5 * scale], "focal_gamma": 1.5}
        sections = {"task": task, "data": {"label": "joy"}, "train": {"label_smoothing": 0.1}}
        run = make_run(
            configure(
                tiny_model, folder, tmp_path / "run", {}, model=tiny.NO_DROPOUT | {"path": str(tiny_model)}, **sections
            )
        )
        batch = run.sampler.epoch_batches(0).batch(run.data["train"].examples, 0)
        batch = {name: np.asarray(x) for name, x in batch.items()}
        state = init_state(run.params, RECORDER, random_keys.root_key(0), optim.hyperparameters(run.config.optim))
        state, scores = jax.jit(partial(train_step, loss_fn=run_loss(run), optimizer=RECORDER))(state, Parameters({}), batch)
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


# Teachers


def soft_loss(base: dict, student: np.ndarray, teacher: np.ndarray, temperature: float) -> np.ndarray:
    """The soft loss of each row by its formula."""
    if base is TARGETS:
        return np.square(student - teacher).mean(-1)
    p, q = (1 / (1 + np.exp(-x.astype(np.float64) / temperature)) for x in (student, teacher))
    return -(q * np.log(p) + (1 - q) * np.log(1 - p)).mean(-1) * temperature**2


@pytest.mark.parametrize("base", [MULTI, TARGETS], ids=["multi_label", "regression"])
def test_the_loss_of_a_teacher_has_weight_alpha(folder, tmp_path, base):
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
        batch = {name: x[0] for name, x in run.sampler.epoch_batches(0).batch(examples, 0).items()}
        params = Parameters(run.params, teachers={x.key: x.params for x in run.teachers})
        (total, weight), _ = jax.jit(run_loss(run))(params, batch, random_keys.root_key(0), {})
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


# Models of Hugging Face


def test_the_threshold_is_that_of_the_model_unless_one_is_given(tiny_model):
    from jaxft.tasks import task_class

    hf_config = {"id2label": {"0": "a", "1": "b"}, "problem_type": "multi_label_classification"}
    config = cli.parse({"task": {"problem": "multi_label", "threshold": 0.3}}, [], origin="")
    task = task_class(config)
    assert task.restore(config, hf_config).threshold == 0.3
    stored = hf_config | {"task_specific_params": {"jaxft": {"threshold": 0.7}}}
    assert task.restore(config, stored).threshold == 0.3
    tuned = replace(config, task=replace(config.task, threshold="tune"))
    assert task.restore(tuned, hf_config).threshold == 0.5
    assert task.restore(tuned, stored).threshold == 0.7
    for given, chosen in {(): "tune", ("--task.problem=multi_label", "--task.threshold=0.3"): 0.3}.items():
        assert rundir.config_of("model", given).task.threshold == chosen  # the model's own unless one is given


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
def test_bad_input_is_refused(train_fails, case):
    changes, words = BAD[case]
    train_fails(changes, *words)


def test_evaluation_with_another_number_of_targets_is_refused(fails, tmp_path):
    model = tiny.write_model(tmp_path / "m", labels=["a", "b"], problem_type="regression")
    (tmp_path / "d.csv").write_text("text,x\nriver,1\n")
    argv = [model, "--data.validation", tmp_path / "d.csv", "--data.label", "x", "--data.max_length", "32"]
    fails("evaluate", argv, "data.label names 1 columns (x)", "2 numbers (a, b)")


@pytest.mark.parametrize("train", [True, False])
def test_evaluation_uses_plain_cross_entropy(train):
    """Label smoothing, class weights and focal exponent act in training only, which is a call with a key."""
    task = TextClassification(("a", "b"), label_smoothing=0.2, class_weights=(1.0, 3.0), focal_gamma=2.0)
    logits = jnp.asarray([[[0.5, -1.0]], [[2.0, 0.3]]])

    class Model:
        override = staticmethod(dict)

        def apply(self, params, inputs, **options):
            return {"logits": logits}

    batch = {"labels": jnp.asarray([[0], [1]]), "weights": jnp.ones((2, 1))}
    (total, weight), _ = make_loss(Model(), task)(Parameters({}), batch, random_keys.root_key(0) if train else None, {})
    plain = -jax.nn.log_softmax(logits)[np.arange(2), 0, np.arange(2)].sum()
    assert (float(weight) == 2) != train
    assert (float(total) == pytest.approx(float(plain), rel=1e-6)) != train
