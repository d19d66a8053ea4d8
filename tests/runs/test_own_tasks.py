"""Tasks, losses and metrics of the user, which the config names as module:name."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from jaxft import evaluate, export, predict
from jaxft.config import cli
from jaxft.core import object_reference
from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.models.weights.tensor_files import open_weights
from jaxft.run import rundir
from jaxft.tasks import task_class
from jaxft.tasks.custom import customised
from jaxft.tasks.text_classification import TextClassification
from jaxft.train import train
from tests.support import read_jsonl, tiny

MODULE = '''
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jaxft import losses
from jaxft.data.batching.collect import Summary
from jaxft.tasks import texts
from jaxft.tasks.task import Split, Task


@dataclass(frozen=True)
class Calm(Task):
    """Whether a text is calm."""

    kind = "text-classification"
    metrics = {"right": True, "loss": False}
    labels = ("no", "yes")

    @classmethod
    def learn(cls, config, hf_config, rows, origin):
        return cls()

    @classmethod
    def restore(cls, config, hf_config):
        return cls()

    @classmethod
    def read(cls, config, split, *, labelled=True):
        return texts.read(config.data, split, [config.data.label] if labelled else [])

    def encode(self, rows, tokenizer, directory, config, origin, *, labelled=True):
        examples = texts.encode(rows, tokenizer, directory, config.data, origin)
        if labelled:
            examples = examples.with_columns(calm=np.array([x == "calm" for x in rows[config.data.label]], np.int32))
        return Split(rows, examples, origin)

    def loss(self, outputs, batch, train):
        return losses.cross_entropy(outputs["logits"], batch["calm"], batch["weights"])

    def soft_pairs(self, outputs, teacher, batch):
        raise NotImplementedError

    def summarise(self, outputs, batch):
        found = jnp.argmax(outputs["logits"], -1)
        return Summary(sums={"right": ((found == batch["calm"]) * batch["weights"]).sum()})

    def scores(self, summary, split):
        return {"right": float(summary.sums["right"] / summary.sums["weight"])}

    def predict(self, outputs, batch):
        return Summary(examples={"logits": outputs["logits"]})

    def decode(self, summary, split):
        for logits in summary.examples["logits"]:
            yield {"calm": bool(logits[1] > logits[0])}


def wrong_shapes(outputs, batch, train):
    return jnp.ones(2) @ jnp.ones(3), 1.0


class Half(Task):
    kind = "text-classification"


def twice(outputs, batch, train):
    total, weight = losses.cross_entropy(outputs["logits"], batch["labels"], batch["weights"])
    return 2 * total, weight


def merry_recall(task, summary, split):
    row = summary.sums["confusion"][task.names.index("merry")]
    return float(row[task.names.index("merry")] / row.sum())


def errors(task, summary, split):
    return float(summary.sums["confusion"].sum() - np.trace(summary.sums["confusion"]))


errors.higher_is_better = False
accuracy = errors
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with the user's module."""
    (tmp_path / "my_parts.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(tiny_model, tiny_data, output, **sections):
    sections = {"model": tiny.NO_DROPOUT, "train": {"epochs": 1, "batch_size": 16}, **sections}
    return tiny.run_config(tiny_model, tiny_data, output, **sections)


@pytest.fixture(scope="module")
def trained(tiny_data, tmp_path_factory):
    """(working directory with a finished run of the task, its results)."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_parts.py").write_text(MODULE)
    model = tiny.write_model(folder / "start", num_hidden_layers=1)
    schedule = {"optim": {"learning_rate": 3e-2}, "plan": {"preset": "head"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, train(configure(model, tiny_data, folder / "run", task={"name": "my_parts:Calm"}, **schedule))


def test_a_users_task_is_evaluated_and_exported(trained, monkeypatch):
    folder, results = trained
    monkeypatch.chdir(folder)
    stored = json.loads(Path("run/model/config.json").read_text())
    assert stored["id2label"] == {"0": "no", "1": "yes"}
    assert evaluate.main(["run"])["right"] == pytest.approx(results["eval/right"])
    export.main(["run", "--output", "again"])
    ours, theirs = (open_weights(folder / x)[0] for x in ("run/model", "again"))
    assert all(ours[name].read().tobytes() == theirs[name].read().tobytes() for name in theirs)


@pytest.mark.parametrize(
    ("path", "options"), [("run", []), ("run/model", ["--task.name=my_parts:Calm", "--data.max_length=32"])]
)
def test_a_users_task_predicts(trained, tiny_data, monkeypatch, path, options):
    """A model directory does not name the module; the user does."""
    folder, results = trained
    monkeypatch.chdir(folder)
    predict.main([path, "--input", str(tiny_data / "dev.csv"), "--output", "found.jsonl", *options])
    found = read_jsonl(Path("found.jsonl"))
    gold = [line.rsplit(",", 1)[1] == "calm" for line in (tiny_data / "dev.csv").read_text().splitlines()[1:]]
    right = [row == {"calm": x} for row, x in zip(found, gold, strict=True)]
    assert np.mean(right) == pytest.approx(results["eval/right"])


def test_an_exception_of_ones_own_loss_names_the_loss(tiny_model, tiny_data, folder, capfd, monkeypatch):
    """And not the script that started the run, which may be in the folder of such a module (this file is)."""
    monkeypatch.setattr(object_reference, "_folders", {*object_reference._folders, f"{Path(__file__).parent}/"})
    config = configure(tiny_model, tiny_data, folder / "run", task={"loss": "my_parts:wrong_shapes"})
    with pytest.raises(SystemExit):
        cli.run_main(lambda _: train(config), [])
    told = capfd.readouterr().err
    at = MODULE.splitlines().index("    return jnp.ones(2) @ jnp.ones(3), 1.0") + 1
    assert re.search(rf"error: wrong_shapes failed in .*my_parts.py, line {at}: TypeError: ", told)
    assert told.count('  File "') == 1


def test_a_users_loss_and_metrics_are_used(tiny_model, tiny_data, folder):
    """Twice the loss has twice the gradient; the metrics are added to the task's, and one chooses the best model."""
    common = {"plan": {"preset": "head"}, "train": {"max_steps": 2}, "log": {"every": 1, "progress": False}}
    own = {
        "task": {"loss": "my_parts:twice"},
        "eval": {"metrics": ["my_parts:merry_recall", "my_parts:errors"], "metric": "errors", "every": 1},
    }
    plain = train(configure(tiny_model, tiny_data, folder / "plain", **common, eval={"every": 1}))
    results = train(configure(tiny_model, tiny_data, folder / "own", **common, **own))
    rows = {name: read_jsonl(folder / name / "metrics.jsonl") for name in ("plain", "own")}
    for key in ("loss", "grad_norm"):
        assert rows["own"][0][key] == pytest.approx(2 * rows["plain"][0][key], rel=1e-5)
    count = results["eval/errors"] / (1 - results["eval/accuracy"])
    assert count == pytest.approx(round(count))
    assert 0 <= results["eval/merry_recall"] <= 1
    assert "eval/errors" not in plain
    evaluated = {row["step"]: row["eval/errors"] for row in rows["own"] if "eval/errors" in row and not row.get("final")}
    assert rows["own"][-1]["selected_step"] == min(evaluated, key=evaluated.__getitem__)


class Silent(TextClassification):
    """Without scores of its own."""

    def scores(self, summary, split):
        return {}


class Compares(TextClassification):
    """With a loss of its own, which may compare the examples of a micro-batch."""

    def loss(self, outputs, batch, train):
        return outputs["logits"].std(), 1.0


class Adds(Compares):
    needs_all_rows = False


def test_a_loss_of_ones_own_sees_all_rows_of_a_micro_batch(folder):
    assert not TextClassification.needs_all_rows
    assert not Silent.needs_all_rows
    assert Compares.needs_all_rows
    assert not Adds.needs_all_rows
    assert customised(TextClassification, "my_parts:twice", ()).needs_all_rows


@pytest.mark.parametrize(
    ("value", "found"),
    [("1", 1), ("None", None), ("np.float32(0.5)", 0.5), ("np.float32('nan')", None), ("'high'", "'high'")],
)
def test_a_metric_is_a_number_or_none(folder, value, found):
    name = "metric_" + "".join(x for x in value if x.isalnum())
    (folder / f"{name}.py").write_text(f"import numpy as np\ndef own(task, summary, split): return {value}\n")
    scores = customised(Silent, None, (f"{name}:own",)).scores
    if isinstance(found, str):
        with pytest.raises(UserError, match="own returned 'high', which is not a number"):
            scores(None, Summary(), None)
    else:
        assert scores(None, Summary(), None)["own"] == found


def test_a_number_of_a_dict_replaces_no_other_score(folder):
    (folder / "metrics_of_one_name.py").write_text(
        "def own(task, summary, split): return {'x': 1, 'y': 2}\ndef own_x(task, summary, split): return 3\n"
    )
    references = [f"metrics_of_one_name:{name}" for name in ("own_x", "own")]
    with pytest.raises(UserError, match='own returned a score "own_x", which there is already'):
        customised(Silent, None, references).scores(None, Summary(), None)


def test_a_finished_run_can_be_evaluated_by_other_metrics(folder):
    """The run's own `eval.metric` has chosen its best model, and need not be among them; one that is given must be."""
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text("eval: {metrics: ['my_parts:errors'], metric: errors}\n")
    options = ["--eval.metrics=[my_parts:merry_recall]", "--task.threshold=0.5"]
    metrics = task_class(rundir.config_of("run", options)).metrics
    assert "merry_recall" in metrics
    assert "errors" not in metrics
    with pytest.raises(UserError, match=r"eval\.metric is errors: must be one of .*merry_recall"):
        task_class(rundir.config_of("run", [*options, "--eval.metric=errors"]))


@pytest.mark.parametrize(
    ("sections", "wrong"),
    [
        ({"task": {"name": "my_parts"}}, "task.name is my_parts: must be one of fill-mask, multiple-choice, "),
        (
            {"task": {"name": "my_parts:twice"}},
            "task.name my_parts:twice: is not a subclass of jaxft.tasks",
        ),
        (
            {"task": {"name": "my_parts:Half"}},
            "task.name my_parts:Half: the class lacks metrics, decode, encode, ",
        ),
        (
            {"task": {"name": "not_mine:Calm"}},
            "task.name not_mine:Calm: there is no module not_mine in",
        ),
        (
            {"task": {"name": "my_parts:Cal"}},
            'task.name my_parts:Cal: my_parts has no Cal; did you mean "Calm"',
        ),
        (
            {"task": {"name": "my_parts:Calm", "labels": ["a", "b"]}},
            "task.labels is ['a', 'b'], but my_parts",
        ),
        ({"task": {"loss": "my_parts:__name__"}}, "task.loss my_parts:__name__: is not a function"),
        ({"task": {"loss": "twice"}}, "task.loss twice: must be module:name, such as my_module:my_loss"),
        ({"task": {"loss": "my_parts:twice", "focal_gamma": 2}}, "task.focal_gamma is 2.0, but it belongs to the loss"),
        (
            {"eval": {"metrics": ["my_parts:accuracy"]}},
            'eval.metrics my_parts:accuracy: there is another metric "acc',
        ),
    ],
)
def test_wrong_names_are_refused_in_one_line(tiny_model, tiny_data, folder, sections, wrong):
    with pytest.raises(UserError) as found:
        task_class(configure(tiny_model, tiny_data, folder / "run", **sections))
    assert str(found.value).removeprefix("test: ").startswith(wrong)


def test_modules_of_a_run_directory_are_not_imported(folder):
    """Not even if it is the working directory."""
    (folder / "config.yaml").write_text("task: {name: 'of_the_run:Calm'}\n")
    (folder / "of_the_run.py").write_text("raise SystemExit")
    for path in (folder, Path()):
        with pytest.raises(UserError, match=r"names of_the_run:Calm, which lies in the run directory"):
            rundir.read_run_config(path)
