"""Losses, metrics, tasks, optimizers and steps of augmentation of the user's, given to `jaxft.Trainer` as objects."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import metrics as sklearn_metrics

import jaxft
from jaxft import losses
from jaxft.core.errors import UserError
from jaxft.core.object_reference import load_object, reference_of
from jaxft.data.batching.collect import Summary
from jaxft.tasks import task_class
from jaxft.tasks.custom import customised, of_predictions
from jaxft.tasks.masked_lm import MaskedLM
from jaxft.tasks.text_classification import TextClassification
from tests.support import read_csv, read_jsonl, tiny
from tests.support.resuming import MODEL, copy_run_at, journal


@pytest.fixture(scope="module")
def options(tiny_data, tmp_path_factory):
    """The sections of a short run."""
    start = tiny.write_model(tmp_path_factory.mktemp("objects") / "start", num_hidden_layers=1)
    splits = {"train": read_csv(tiny_data / "train.csv"), "validation": read_csv(tiny_data / "dev.csv")}
    return {
        "model": {"path": str(start), **tiny.NO_DROPOUT},
        "data": {**splits, "max_length": 32, "shapes": 1},
        "plan": {"preset": "head"},
        "train": {"epochs": 1, "batch_size": 16},
        "checkpoint": {"every": 3, "keep": 9},
        "mesh": {"data": 1},
        "log": {"every": 1, "progress": False},
        "runtime": {"distributed": "off", "unroll": 1},
    }


def trainer(options, folder, **sections):
    merged = {name: {**options.get(name, {}), **section} for name, section in sections.items()}
    return jaxft.Trainer(output_dir=str(folder), **{**options, **merged})


def twice(outputs, batch, train):
    total, weight = losses.cross_entropy(outputs["logits"], batch["labels"], batch["weights"])
    return 2 * total, weight


def descent(learning_rate, momentum=0.0):
    return optax.sgd(learning_rate, momentum)


class Backwards:
    """Puts the words of a text into the reverse order."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, document, draws):
        free = document.editable()
        for one, other in zip(free[: len(free) // 2], reversed(free), strict=False):
            document.swap(one, other)


class Calm(TextClassification):
    """A task that differs in the name of its class only."""


def report(predictions, references):
    return {"right": np.float32((predictions == references).mean()), "rows": len(references)}


def test_objects_train_evaluate_and_resume_as_a_file_would(options, tmp_path):
    """A loss, metrics, a task, an optimizer and an augmentation, none of which a module has under its name."""
    scores = {
        "macro": lambda predictions, references: sklearn_metrics.f1_score(references, predictions, average="macro"),
        "recall": lambda y_true, y_pred: sklearn_metrics.recall_score(y_true, y_pred, average="macro"),
        "report": report,
    }
    sections = {
        "task": {"name": Calm, "loss": twice},
        "eval": {"metrics": scores, "metric": "macro"},
        "optim": {"name": descent, "arguments": {"momentum": 0.5}, "learning_rate": 1e-2},
        "augment": {"steps": [{"step": Backwards, "rate": 0.3}], "share": 1.0},
    }
    run = trainer(options, tmp_path / "whole", **sections)
    results = run.train()
    assert run.config.task.loss == f"{__name__}:twice"
    assert run.config.eval.metrics[0] == f"{__name__}:macro"
    assert results["eval/macro"] == pytest.approx(results["eval/macro_f1"])
    assert results["eval/report_right"] == pytest.approx(results["eval/accuracy"])
    assert results["eval/report_rows"] == len(options["data"]["validation"])
    assert 0 < results["eval/recall"] < 1
    assert run.evaluate()["macro"] == results["eval/macro"]
    copy_run_at(3, tmp_path / "whole", tmp_path / "half")
    assert trainer(options, tmp_path / "half", **sections).train() == results
    assert (tmp_path / "half" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    assert journal(tmp_path / "half") == journal(tmp_path / "whole")


def test_an_own_optimizer_is_that_of_optax(options, tmp_path):
    """With and without the argument learning_rate; the names of optax choose the same functions."""
    kept = {"arguments": {"momentum": 0.5}, "learning_rate": 1e-2}

    def trace(momentum):
        return optax.trace(momentum)

    for name, optimizer in (("optax", "optax.sgd"), ("own", descent), ("direction", trace)):
        trainer(options, tmp_path / name, optim={"name": optimizer, **kept}, train={"max_steps": 3}).train()
    losses = {name: [row.get("loss") for row in read_jsonl(tmp_path / name / "metrics.jsonl")] for name in ("optax", "own")}
    assert losses["optax"] == losses["own"]
    expected = (tmp_path / "optax" / MODEL).read_bytes()
    assert all((tmp_path / name / MODEL).read_bytes() == expected for name in ("own", "direction"))


def one_by_one(outputs, batch, train):
    return losses.cross_entropy(outputs["logits"], batch["labels"], batch["weights"])[0]


def vectors(outputs, batch, train):
    return outputs["logits"].sum((1, 2)), batch["weights"].sum()


def impure(outputs, batch, train):
    return (1.0, 1.0) if float(outputs["logits"].sum()) > 0 else (0.0, 1.0)


def with_numpy(outputs, batch, train):
    return np.log(outputs["logits"]).sum(), jnp.float32(1)


@pytest.mark.parametrize(
    ("loss", "wrong"),
    [
        (one_by_one, r"one_by_one: returned \[\]: must return \(sum, weight\), two scalars"),
        (vectors, r"vectors: returned \[\d+\], \[\]: must return \(sum, weight\)"),
        (impure, r"impure: must be a pure function of arrays, .*use jax\.numpy in place of numpy, float\(\) and if"),
        (with_numpy, r"with_numpy: must be a pure function of arrays"),
    ],
)
def test_a_wrong_loss_is_refused_with_the_reason(options, tmp_path, loss, wrong):
    with pytest.raises(UserError, match=f"task.loss {__name__}:{wrong}"):
        trainer(options, tmp_path / "run", task={"loss": loss}).train()


def test_what_has_no_name_or_no_use_is_refused(options, tmp_path):
    for sections, wrong in (
        ({"task": {"loss": lambda outputs, batch, train: 0}}, "task.loss: <lambda> has no name"),
        ({"eval": {"metrics": [lambda predictions, references: 0]}}, "eval.metrics: <lambda> has no name"),
        ({"eval": {"metrics": lambda predictions, references: 0}}, "eval.metrics: <lambda> has no name"),
        ({"eval": {"metrics": {"a/b": max}}}, "eval.metrics: the name 'a/b' must be of letters, digits and _"),
        ({"augment": {"steps": [{"step": "tests:x", "rate": 2}]}}, "augment.steps 1 rate is 2"),
        ({"augment": {"steps": [{"step": "delet"}]}}, 'module:name of your own; did you mean "delete"?'),
    ):
        with pytest.raises(UserError) as found:
            trainer(options, tmp_path / "run", **sections)
        assert wrong in str(found.value)
    config = trainer(options, tmp_path / "run", eval={"metrics": [report], "metric": "reprot"}).config
    with pytest.raises(UserError, match=r'eval.metric is reprot: must be one of .*; did you mean "report"\?'):
        task_class(config)
    several = trainer(options, tmp_path / "run", eval={"metrics": [report], "metric": "report"}, train={"max_steps": 1})
    with pytest.raises(UserError, match=r"eval\.metric is report: must be one of the scores, .* report_"):
        several.train()
    entry = trainer(
        options, tmp_path / "entry", eval={"metrics": [report], "metric": "report_right"}, train={"max_steps": 1}
    )
    assert entry.train()["eval/report_right"] == pytest.approx(entry.history[-1]["eval/accuracy"])
    unknown = trainer(options, tmp_path / "other", optim={"name": "tests.runs.test_own_objects:nothing"})
    with pytest.raises(UserError, match="test_own_objects has no nothing"):
        unknown.train()


def test_references_of_objects():
    assert load_object(reference_of(TextClassification, "task.name"), "task.name") is TextClassification
    assert reference_of(TextClassification, "task.name") == "jaxft.tasks.text_classification:TextClassification"

    def local():
        pass

    assert load_object(reference_of(local, "task.loss"), "task.loss") is local
    first, second = (load_object(reference_of(x, "eval.metrics", "f1"), "eval.metrics") for x in (abs, max))
    assert (first, second) == (abs, max)
    with pytest.raises(UserError, match=r"task\.loss __main__:gone: is of a script or notebook"):
        load_object("__main__:gone", "task.loss")


def test_metrics_get_their_arguments_by_name_or_position():
    """Those of scikit-learn have the references first, those of `evaluate` take names only."""
    for function in (
        lambda predictions, references: (predictions, references),
        lambda found, right, scale=1: (found, right),
        lambda y_true, y_pred: (y_pred, y_true),
        lambda *, predictions=None, references=None, **more: (predictions, references),
    ):
        call = of_predictions(function)
        assert call is not None
        assert call(1, 2) == (1, 2)
    assert of_predictions(lambda task, summary, split: 0) is None


def test_a_metric_of_a_task_without_predictions_is_refused():
    scores = customised(MaskedLM, None, [reference_of(report, "eval.metrics")]).scores
    summary = Summary(sums={"mlm_loss": 1.0, "words": 2, "mlm_hits": 1})
    split: Any = None
    with pytest.raises(UserError, match="fill-mask has no metrics of"):
        scores(MaskedLM(), summary, split)
