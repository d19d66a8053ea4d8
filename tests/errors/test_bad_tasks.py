"""Several tasks that do not fit together give one line."""

import json
from dataclasses import replace

import pytest

from jaxft.config import Config, TaskConfig
from jaxft.config.of_tasks import of_tasks
from jaxft.config.several import NamedTaskConfig
from jaxft.config.training import TrainConfig
from jaxft.core.errors import UserError
from jaxft.models.encoder.adapters import ADAPTER
from jaxft.models.model import MAIN
from jaxft.step.domain_head import HEAD
from jaxft.step.train_step import MEANS, METRICS
from jaxft.tasks import check_smoothing, task_class
from tests.support import several, tagged


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return several.write_files(tmp_path_factory.mktemp("tasks"))


def with_tasks(folder, *changes: dict, names=("moods", "tags")) -> dict[str, object]:
    """Options of a run of tasks, with changes to each element."""
    tasks = zip(several.elements(folder, list(names)), [*changes, {}, {}], strict=False)
    return {"tasks": json.dumps([task | own for task, own in tasks]), "data.train": None, "data.validation": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{}, {"name": "moods"}], ["tasks 2 name is moods", "tasks 1 has", "its own name"]),
        ([{}, {"name": "Moods"}], ["tasks 2 name is Moods", "tasks 1 has"]),
        ([{"name": "a b"}], ["tasks 1 name is a b", "letters, digits"]),
        ([{"name": "main"}], ["tasks 1 name is main", "another one"]),
        ([{}, {"share": 1}], ["tasks 2 share is 1", "only shares has it"]),
        ([{"weight": -1}], ["tasks 1 weight is -1", "0 or more"]),
        ([{"weight": 0}, {"weight": 0}], ["every weight is 0"]),
        ([{}, {"data": {"trian": "x"}}], ["task tags", 'unknown option "data.trian"', 'did you mean "data.train"']),
        ([{}, {"data": {"max_length": "x"}}], ["task tags", "data.max_length is x", "a whole number"]),
        ([{"data": {"layout": "pad"}}], ["task moods", "data.layout", "whole run"]),
        ([{}, {"data": {}}], ["task tags", "data.train is not set"]),
        ([{"task": {"tag_scheme": "none"}}], ["task moods", "task.tag_scheme is none", "no such option"]),
        ([{"task": {"name": "multiple-choice"}}], ["task moods", "data.choices is not set"]),
    ],
)
def test_an_element_that_is_wrong(train_fails, folder, changes, words):
    train_fails(with_tasks(folder, *changes), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampling.sampler": "shares"}, ["tasks 1 share is null", "the share of every task"]),
        ({"sampling.temperature": 3}, ["sampling.temperature is 3", "only temperature has it"]),
        (
            {"tasks": json.dumps({name: {"data": {"train": "a.csv"}} for name in "abcdef"})},
            [" ...: must be a list of mappings"],
        ),
        ({"sampling.sampler": "sometimes"}, ["sampling.sampler is sometimes", "round_robin"]),
        ({"train.batch_size": 1}, ["train.batch_size is 1", "2 or more", "per_step one"]),
        (
            {"train.batch_size": 78, "sampling.per_step": "one"},
            ["train.batch_size is 78", "78 examples has one step", "2 tasks need one each"],
        ),
        ({"eval.metric": "tags/accurcy"}, ["task tags: eval.metric is accurcy", 'did you mean "accuracy"']),
        ({"eval.metric": "accuracy"}, ["eval.metric is accuracy", "moods/accuracy"]),
        ({"augment.mixup": 0.2}, ["augment.mixup", "a run of one task"]),
        ({"distill.teacher": "x"}, ["distill.teacher", "a run of one task"]),
        ({"vocabulary.words": '["foo"]'}, ["vocabulary", "a run of one task"]),
        pytest.param(
            {"plan.rules": '[{"pattern": "heads.main", "learning_rate": 2}]'},
            ["heads.main", "matches no"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_options_that_do_not_fit_several_tasks(train_fails, folder, options, words):
    train_fails(with_tasks(folder) | options, *words)


@pytest.mark.parametrize("name", [MAIN, HEAD, METRICS.rstrip("/"), MEANS.rstrip("/"), ADAPTER])
def test_a_name_that_means_something_else_in_a_run(name):
    with pytest.raises(UserError, match=f"tasks 2 name is {name}: must be another one than main, "):
        NamedTaskConfig(name).validate("tasks 2 ")


def test_a_share_of_zero(train_fails, folder):
    options = with_tasks(folder, {"share": 1}, {"share": 0}) | {"sampling.sampler": "shares"}
    train_fails(options, "tasks 2 share is 0", "above 0")


def test_one_task_and_sampling_without_tasks(train_fails, folder):
    train_fails(with_tasks(folder, names=["moods"]), "tasks has one task, moods", "two or more")
    train_fails({"sampling.per_step": "one"}, "sampling", "there are no tasks")


def test_a_head_that_the_model_lacks_and_a_file_that_is_wrong(train_fails, folder, tmp_path):
    changes = {}, {"task": {"name": "pretraining"}}
    tagged.write_conll(tmp_path / "one.conll", [(["the"], ["O"])])
    train_fails(with_tasks(folder, {}, {"data": {"train": str(tmp_path / "one.conll")}}), "task tags", 'the only tag is "O"')
    line = train_fails(with_tasks(folder, *changes), "task tags")
    assert "Traceback" not in line


def test_validation_shares_need_validation_data(train_fails, folder):
    options = with_tasks(folder, {"data": {"train": str(folder / "train.csv")}}) | {"sampling.sampler": "validation"}
    train_fails(options, "sampling.sampler validation", "moods", "data.validation")


def test_what_follows_evaluations_needs_validation_data(train_fails, folder):
    without = [{"data": {"train": str(folder / name)}} for name in ("train.csv", "train.conll")]
    options = with_tasks(folder, *without)
    train_fails(options | {"train.patience": 1}, "train.patience follows evaluations")
    options = with_tasks(folder, without[0])
    train_fails(options | {"eval.metric": "moods/accuracy"}, "eval.metric is moods/accuracy", "give moods data.validation")


def test_labels_are_smoothed_in_the_tasks_that_have_any():
    """The others ignore the option, also when they are restored for evaluation."""
    names = [NamedTaskConfig("moods"), NamedTaskConfig("answers", {"name": "question-answering"})]
    config = Config(tasks=names, train=TrainConfig(label_smoothing=0.1))
    check_smoothing(config)
    for own in of_tasks(config).values():
        task_class(own)
    with pytest.raises(UserError, match="but question-answering has none"):
        check_smoothing(replace(config, tasks=[], task=TaskConfig("question-answering")))


def test_commands_for_one_task(fails, folder, tmp_path, tiny_model):
    path = tmp_path / "c.yaml"
    tasks = several.elements(folder, ["moods", "tags"])
    path.write_text(json.dumps({"model": {"path": str(tiny_model)}, "tasks": tasks}))
    output = ["--output", tmp_path / "out.jsonl"]
    fails("clean", [path, "--data.train", folder / "train.csv", *output], "several tasks (moods, tags)")
    fails("suspicious_labels", [path, *output], "several tasks (moods, tags)")
