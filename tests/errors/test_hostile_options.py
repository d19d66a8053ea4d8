"""Options and configs with huge numbers, deep nesting, long names or endless patterns: one short line within seconds."""

import itertools
import json

import pytest

from jaxft.config import cli
from jaxft.core import patterns
from tests.support.hostile import DIGITS, NAME, NEST, refused


@pytest.mark.parametrize(
    "option",
    [
        f"--train.epochs={DIGITS}",
        f"--train.max_steps=0x{'f' * 5000}",
        f"--seed=1{':1' * 20_000}",
        f"--optim.learning_rate={'9' * 900}",
        f"--train.batch_size={NEST}",
        f"--train.batch_size={'- ' * 20_000}",
        f"--train.batch_size={'{a: ' * 20_000}",
        "--train.max_steps=1e300",
        "--train.epochs=1e999",
        f"--{NAME}=1",
        f"--task.name={NAME}",
        f"--plan.preset={NAME}",
    ],
    ids=lambda option: option[:24],
)
def test_hostile_options_are_refused_by_name(option):
    text = refused(lambda: cli.load([option]))
    assert option[2:14] in text.replace(" is ", "=")


BILLION_LAUGHS = "a: &a [1, 1]\n" + "".join(f"{b}: &{b} [{f'*{a}, ' * 9}]\n" for a, b in itertools.pairwise("abcdefghi"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"train: {{epochs: {DIGITS}}}", "a number of more than 300 digits"),
        (f"seed: 0x{'f' * 5000}", "a number of more than 300 digits"),
        (NEST, "brackets inside more than 100 brackets"),
        ("{a: " * 100_000, "brackets inside more than 100 brackets"),
        ("- " * 100_000, "nested too deep"),
        ("? " * 100_000, "nested too deep"),
        (BILLION_LAUGHS, "more than 1,000,000 values"),
        ("data: &a {text: *a}", "more than 1,000,000 values"),
        ("x: " + "y" * 600_000, "600,003 characters, more than 524,288"),
        ("seed: 2001-99-99", "month must be in 1..12"),
        ("{[a]: 1}", "unhashable"),
        ("train: {batch_size: null}", "train.batch_size is null: must be a whole number"),
        ("data: {null: {a: 2}}", 'unknown option "data.None.a"'),
        ("".join(f"k{i}: 1\n" for i in range(5000)), 'unknown option "k0"'),
    ],
    ids=lambda x: x[:20],
)
def test_hostile_configs_are_refused(tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    refused(lambda: cli.load([str(tmp_path / "c.yaml")]), words)


def test_a_recursion_error_is_one_line(capsys):
    """Wherever it is raised."""

    def deep(_: list[str]) -> None:
        deep(_)

    with pytest.raises(SystemExit) as stop:
        cli.run_main(deep, [])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: a file or an option is nested too deep\n"


@pytest.mark.parametrize("option", ["plan.rules", "plan.lora.targets"])
def test_endless_patterns_are_refused(train_fails, monkeypatch, option):
    monkeypatch.setattr(patterns, "SECONDS", 0.5)
    endless = r"((\w|\.)+)+!"
    value = json.dumps([{"pattern": endless, "trainable": True}]) if option == "plan.rules" else endless
    preset = {"plan.preset": "lora"} if "lora" in option else {}
    train_fails({option: value, **preset}, "takes more than 0.5 seconds to match")
