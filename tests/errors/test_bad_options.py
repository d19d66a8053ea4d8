"""Invalid command lines, config files and options: one line that names the option; nothing is written."""

import json
import re

import pytest

from jaxft.config import cli
from jaxft.core.errors import UserError
from tests.support import tiny

FROZEN = {"trainable": False}
NO_DROPOUT = {f"model.{name}": 0 for name in tiny.NO_DROPOUT}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--data.max_lenght", "8"], ['"--data.max_lenght"', 'did you mean "--data.max_length"']),
        (["--adversarial", "freelb"], ['"--adversarial" is a section', "--adversarial.method"]),
        (["--learning_rate", "8"], ["unknown option", "optim.learning_rate"]),
        (["--train.batch_size", "1e3"], ["train.batch_size is 1000.0", "whole number"]),
        (["--train.batch_size", "many"], ["train.batch_size is many", "whole number"]),
        (["--optim.learning_rate", "high"], ["optim.learning_rate is high", "number"]),
        (["--data.truncation", "maybe"], ["data.truncation is maybe", "true or false"]),
        (["--data.layout", "stack"], ["data.layout is stack", "pack, bucket, pad"]),
        (["--task.labels", "a"], ["task.labels is a", "list"]),
        (["--task.labels", "[a, a]"], ["task.labels", "different"]),
        (["--seed"], ["--seed", "expected one argument"]),
        (["--distill.temperature_gamma", "2"], ["temperature_gamma is 2.0", "distill.temperature_schedule is flsw"]),
        (["--plan.rules", '[{"patern": "x"}]'], ["plan.rules", '"patern"', 'did you mean "pattern"']),
        (["absent.yaml"], ["absent.yaml", "No such file"]),
        (["a.yaml", "b.yaml"], ["one CONFIG.yaml", "a.yaml b.yaml"]),
        (["--seed", "1", "a.yaml"], ["a.yaml"]),
        ([], ["model.path is not set"]),
    ],
)
def test_bad_command_line(fails, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    fails("train", argv, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("train.batch_size", "many", "train.batch_size is many: must be a whole number"),
        ("train.batch_size", "null", "train.batch_size is null: must be a whole number"),
        ("plan.rules", "[{}]", "plan.rules 1 has no pattern"),
    ],
)
def test_a_wrong_value_is_blamed_on_the_file_only_if_the_file_has_it(tmp_path, option, value, words):
    path, (section, name) = tmp_path / "run.yaml", option.split(".")
    path.write_text("seed: 1\n")
    with pytest.raises(UserError, match=f"^{re.escape(words)}"):
        cli.load([str(path), f"--{option}={value}"])
    path.write_text(f"{section}: {{{name}: {value}}}\n")
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {words}')}"):
        cli.load([str(path)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"- a\n- b\n", ["mapping"]),
        (b"just text", ["mapping"]),
        (b"seed: [1\n", ["not valid YAML", "line 2"]),
        (b"seed: 1\nseed: 2\n", ['"seed" occurs twice', "line 1"]),
        (b"data: {train: a, train: b}\n", ['"train" occurs twice']),
        (b"output_dir: caf\xe9\n", ["UTF-8"]),
        (b"traim: {epochs: 1}\n", ['"traim"', 'did you mean "train"']),
        (b"train: {epoch: 1}\n", ['"train.epoch"', 'did you mean "train.epochs"']),
        (b"train: 3\n", ["train is a section", "3"]),
        (b"data: {1: 2}\n", ['"data.1"']),
        (b"data: {label: 1}\n", ["data.label is 1", "text"]),
        (b"task: {labels: [yes, no]}\n", ["task.labels is [True, False]", "in quotes"]),
        (b"train: {batch_size: true}\n", ["train.batch_size is True", "whole number"]),
        (b"log: {trackers: [wanb]}\n", ["log.trackers is wanb", "a list, such as [tensorboard]", "wandb"]),
        (b"log: {tensorboard: true}\n", ['unknown option "log.tensorboard"']),
        (b"log: {profile_steps: [a, b]}\n", ["log.profile_steps", "a list of whole numbers, such as [1, 2]"]),
        (b"task: {class_weights: [a]}\n", ["task.class_weights", "balanced or a list of numbers, such as [0.5, 2] or null"]),
        (b"plan: {rules: [1]}\n", ["plan.rules 1 is 1: must be a mapping with pattern, and perhaps trainable"]),
        (b"eval: {every: 0.5}\n", ["eval.every is 0.5"]),
        (b"seed: !!python/object:os.system 1\n", ["not valid YAML"]),
    ],
)
def test_bad_yaml(fails, tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_bytes(text)
    fails("train", [path], "bad.yaml", *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.validation_share": 0.1}, ["data.validation", "data.validation_share", "exclude"]),
        ({"optim.schedule": "plateau", "data.validation": None}, ["plateau", "data.validation"]),
        ({"train.patience": 1, "data.validation": None}, ["train.patience", "data.validation"]),
        ({"plan.preset": "none"}, ["plan.preset is none", "plan.rules"]),
        ({"eval.metric": "acuracy"}, ["eval.metric is acuracy", "accuracy"]),
        ({"eval.metric": "f1"}, ["eval.metric is f1", "two labels", "has 3", "macro_f1"]),
        ({"data.train": None}, ["data.train is not set"]),
        ({"runtime.attention": "cudnn"}, ["runtime.attention is cudnn", "model.attention_dropout 0"]),
        ({"runtime.attention": "splash", "model.attention_dropout": 0}, ["splash: the device is a cpu", "auto"]),
        ({"regularization.r_drop": 1, **NO_DROPOUT}, ["regularization.r_drop is 1", "no dropout", "give model.dropout"]),
        ({"model.num_layers": 3}, ["model.num_layers is 3", "2 layers"]),
        ({"mesh.fsdp": 3}, ["mesh.fsdp 3", "8 devices"]),
        ({"mesh.fsdp": 16}, ["mesh.fsdp 16", "8 devices"]),
        ({"mesh.data": 9}, ["mesh.data 9", "8 devices"]),
        ({"plan.preset": "last_n", "plan.n": 3}, ["plan.n is 3", "2 layers"]),
        ({"plan.preset": "reinit", "plan.reinit_layers": 3}, ["plan.reinit_layers is 3", "2 layers"]),
        ({"plan.preset": "[head, none]"}, ["plan.preset is", "none alone"]),
        ({"plan.preset": "[bias, bias]"}, ["plan.preset is", "different"]),
        ({"plan.preset": "[head, full]"}, ["head and full contradict", "trainable of encoder.embeddings", "write a rule"]),
        ({"plan.preset": "[bias, freeze_embeddings]"}, ["bias and freeze_embeddings", "embeddings.LayerNorm.bias"]),
        ({"plan.preset": "gradual", "plan.unfreeze_every": 900}, ["plan.preset gradual", "step 1800", "the run ends after"]),
        ({"plan.preset": "gradual", "plan.unfreeze_every": "end"}, ["plan.unfreeze_every is end", "0.5 epochs"]),
    ],
)
def test_options_that_do_not_fit(train_fails, changes, words):
    train_fails(changes, *words)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"pattern": "classifer", "learning_rate": 2}, ['"classifer" matches no parameter', 'did you mean "classifier"']),
        ({"pattern": r"layer\.1\.attention\.self\.qury\.kernel", **FROZEN}, ["layer.1.attention.self.query.kernel"]),
        ({"pattern": "zzz", **FROZEN}, ['"zzz" matches no parameter', "heads.main"]),
        ({"pattern": "layer.(", **FROZEN}, ['"layer.("', "not a regular expression"]),
        ({"pattern": "", **FROZEN}, ["trains nothing"]),
        ({"pattern": "heads"}, ['plan.rules "heads" is null in every column', "trainable, learning_rate"]),
        ({"pattern": "heads", "unfreeze": "end"}, ['"heads" unfreeze is end', "0.5 epochs"]),
        ({"pattern": "pooler", "unfreeze": 999}, ['rule "pooler"', "encoder.pooler.", "step 999", "the run ends after"]),
        ({"pattern": "", "unfreeze": 2}, ["nothing before step 2", "unfreeze"]),
    ],
)
def test_bad_plan_rule(train_fails, rule, words):
    train_fails({"plan.rules": json.dumps([rule])}, *words)


def test_rule_that_earlier_rules_hide(train_fails):
    rules = [{"pattern": "encoder", **FROZEN}, {"pattern": "pooler", **FROZEN, "learning_rate": 2}]
    train_fails({"plan.rules": json.dumps(rules)}, '"pooler"', "earlier rules decide trainable")


def test_rules_that_leave_parameters_out(train_fails):
    changes = {"plan.preset": "none", "plan.rules": json.dumps([{"pattern": "heads", "trainable": True}])}
    train_fails(changes, "covered by no rule", "encoder.embeddings")
