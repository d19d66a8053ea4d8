"""The limits of every option: a value out of range is refused with the option's dotted name and the value."""

from dataclasses import fields, replace
from typing import get_args

import pytest

from jaxft.config import Config, RuleConfig, TaskConfig
from jaxft.config.task import Problem, TaskName
from jaxft.core.errors import UserError

TASKS, PROBLEMS = get_args(TaskName), get_args(Problem)

NAN, INF = float("nan"), float("inf")
NUMBERS = {
    "train.batch_size": [0, -1],
    "train.micro_batches": [0, 33],
    "train.epochs": [0, -1, NAN, INF],
    "train.max_steps": [0, -5],
    "train.patience": [0],
    "train.min_delta": [-1, NAN],
    "train.label_smoothing": [1, -0.1, NAN],
    "optim.learning_rate": [0, -1, NAN, INF],
    "optim.weight_decay": [-1, NAN, INF],
    "optim.beta1": [1, -1, NAN],
    "optim.beta2": [1, INF],
    "optim.epsilon": [0, NAN],
    "optim.warmup": [-1, NAN, INF],
    "optim.cycles": [0],
    "optim.power": [0, NAN],
    "optim.end_factor": [-0.1, 1.1],
    "optim.ratio": [0.5, INF],
    "optim.plateau_factor": [0, 1],
    "optim.plateau_patience": [-1],
    **{f"regularization.{name}": [-1, INF] for name in ("l1", "l2", "l2_sp", "l2_sp_head", "r_drop", "neftune")},
    **{f"regularization.{name}": [-0.1, 1, NAN] for name in ("mixout", "ema")},
    **{f"adversarial.{name}": [0, -1, INF] for name in ("epsilon", "steps", "step_size")},
    **{f"adversarial.{name}": [-1, NAN, INF] for name in ("weight", "start")},
    "domains.weight": [-1, NAN, INF],
    **{f"domains.{name}": [0, -1] for name in ("gamma", "per_step", "hidden")},
    "optim.clip": [0, -1, NAN, INF],
    "model.dropout": [1, -0.1, NAN],
    "model.attention_dropout": [1.5],
    "model.classifier_dropout": [INF],
    "model.num_layers": [0, -1],
    "data.max_length": [2, 0, -1],
    "data.shapes": [0],
    "data.prefetch": [0],
    "data.max_train_examples": [0, -1],
    "data.validation_share": [1, -0.5, NAN],
    "plan.n": [-1],
    "plan.unfreeze_layers": [0],
    "plan.layer_decay": [0, INF],
    "plan.reinit_layers": [0],
    "plan.rules": [[RuleConfig("x", learning_rate=x)] for x in (INF, -1.0)],
    "eval.batch_size": [0],
    "eval.every": [0, -1, "1 week", "10 minutes", "0 epochs", "0.5 steps", "nan epochs", ""],
    "checkpoint.every": [0, "often", "0 minutes", "-1 hours", "x minutes", "nan minutes", "inf hours", "minutes"],
    "checkpoint.keep": [0],
    "distill.teacher_weights": [[0.0, 0.0], [1.0, -1.0], [INF]],
    "distill.temperature": [0, NAN, INF],
    "distill.alpha": [-0.1, 1.1, NAN],
    "distill.alpha_end": [-0.1, 1.1, NAN],
    "distill.temperature_beta": [-1, NAN],
    "distill.output_weight": [-1, NAN, INF],
    "distill.temperature_gamma": [0, -1, NAN],
    "mesh.data": [0, -2],
    "mesh.fsdp": [0, -1],
    "log.every": [0],
    "log.trackers": [["wandb", "wandb"]],
    "log.project": ["", " "],
    "log.run_name": [""],
    "runtime.unroll": [0],
    "seed": [-1, 2**32],
    "data.split_seed": [-1, 2**32],
    "data.stride": [-1, 128],
    "data.choices": [[], ["a", "a"]],
    "task.labels": [["a"], ["a", "a"]],
    "task.class_weights": [[0.0, 0.0], [1.0, -1.0], [1.0, INF]],
    "task.threshold": [-0.1, 1.1, NAN],
    "task.mask_rate": [0, 1, NAN],
    "vocabulary.min_pieces": [1],
    "plan.lora.rank": [0],
}


def changed(section, names, value):
    first, *rest = names
    return replace(section, **{first: changed(getattr(section, first), rest, value) if rest else value})


@pytest.mark.parametrize("name", NUMBERS)
def test_a_value_out_of_range_is_refused_by_name(name):
    for value in NUMBERS[name]:
        config = changed(Config(), name.split("."), value)
        with pytest.raises(UserError) as error:
            config.validate()
        assert name in str(error.value)
        assert ("learning_rate" if name == "plan.rules" else str(value)) in str(error.value)


def test_the_defaults_are_valid():
    Config().validate()


@pytest.mark.parametrize(("name", "value"), [("data.label", ["a", "b"]), ("task.class_weights", "balanced"), ("seed", 0)])
def test_an_alternative_of_a_union_has_its_own_limit(name, value):
    changed(Config(), name.split("."), value).validate()


def test_every_task_option_belongs_to_a_task_or_a_problem():
    named = {name for task in TASKS for name in replace(Config().task, name=task).options}
    named |= {name for problem in PROBLEMS for name in replace(Config().task, problem=problem).options}
    assert named | {"name", "loss"} == {field.name for field in fields(TaskConfig)}
