"""The limits of a config, checked before anything starts."""

import sys
import typing

from jaxft.config.optim import Schedule
from jaxft.config.plan import Duration, PlanConfig
from jaxft.config.schema import Config, TaskName
from jaxft.core.errors import UserError
from jaxft.core.object_reference import is_reference
from jaxft.core.urls import refuse_url

MOST = 1e15  # of steps, epochs, examples and sizes: whole numbers up to it are exact as floats


def check(config: Config) -> None:
    """Check ranges and exclusive options.

    Raises:
      UserError: naming the field, the value received and what would be right.
    """
    c = config
    for name, path in paths(c).items():
        refuse_url(name, path)
    tasks = typing.get_args(TaskName)
    known = c.task.name in tasks or is_reference(c.task.name)
    _require(known, "task.name", c.task.name, f"one of {', '.join(tasks)}, or module:Class of your own")
    shares = {
        "model.dropout": c.model.dropout,
        "model.attention_dropout": c.model.attention_dropout,
        "model.classifier_dropout": c.model.classifier_dropout,
        "data.validation_share": c.data.validation_share,
        "plan.lora.dropout": c.plan.lora.dropout,
        "train.label_smoothing": c.train.label_smoothing,
        "regularization.mixout": c.regularization.mixout,
        "regularization.ema": c.regularization.ema,
        "optim.beta1": c.optim.beta1,
        "optim.beta2": c.optim.beta2,
    }
    for name, value in shares.items():
        _require(value is None or 0 <= value < 1, name, value, "0 or more and below 1")
    _require(0 <= c.optim.end_factor <= 1, "optim.end_factor", c.optim.end_factor, "from 0 to 1")
    _require(0 < c.optim.plateau_factor < 1, "optim.plateau_factor", c.optim.plateau_factor, "above 0 and below 1")
    _require(1 <= c.optim.ratio < float("inf"), "optim.ratio", c.optim.ratio, "1 or more")
    _require(0 <= c.distill.alpha <= 1, "distill.alpha", c.distill.alpha, "from 0 to 1")
    positive = {
        "data.max_train_examples": c.data.max_train_examples,
        "data.max_eval_examples": c.data.max_eval_examples,
        "data.shapes": c.data.shapes,
        "data.prefetch": c.data.prefetch,
        "model.num_layers": c.model.num_layers,
        "vocabulary.most_frequent": c.vocabulary.most_frequent,
        "optim.learning_rate": c.optim.learning_rate,
        "optim.epsilon": c.optim.epsilon,
        "optim.clip": c.optim.clip,
        "optim.cycles": c.optim.cycles,
        "optim.power": c.optim.power,
        "train.epochs": c.train.epochs,
        "train.max_steps": c.train.max_steps,
        "train.batch_size": c.train.batch_size,
        "train.micro_batches": c.train.micro_batches,
        "train.patience": c.train.patience,
        "task.n_best": c.task.n_best,
        "task.max_answer_length": c.task.max_answer_length,
        "eval.batch_size": c.eval.batch_size,
        "checkpoint.keep": c.checkpoint.keep,
        "distill.temperature": c.distill.temperature,
        "mesh.fsdp": c.mesh.fsdp,
        "runtime.steps_per_execution": c.runtime.steps_per_execution,
        "log.every": c.log.every,
        "plan.unfreeze_layers": c.plan.unfreeze_layers,
        "plan.layer_decay": c.plan.layer_decay,
        "plan.reinit_layers": c.plan.reinit_layers,
        "plan.lora.rank": c.plan.lora.rank,
        "plan.lora.alpha": c.plan.lora.alpha,
        "plan.adapters.size": c.plan.adapters.size,
        "runtime.unroll": c.runtime.unroll,
    }
    for name, value in positive.items():
        if name.startswith("optim."):
            _require(value is None or 0 < value < float("inf"), name, value, "a finite number above 0")
        else:
            _require(value is None or 0 < value <= MOST, name, value, f"above 0 and at most {MOST:g}")
    for name, value in {
        "optim.weight_decay": c.optim.weight_decay,
        "optim.warmup": c.optim.warmup,
        "optim.plateau_patience": c.optim.plateau_patience,
        "train.min_delta": c.train.min_delta,
        "plan.n": c.plan.n,
        **{f"regularization.{x}": getattr(c.regularization, x) for x in ("l1", "l2", "l2_sp", "l2_sp_head")},
        "regularization.r_drop": c.regularization.r_drop,
        "regularization.neftune": c.regularization.neftune,
        "task.focal_gamma": c.task.focal_gamma,
    }.items():
        _require(0 <= value < float("inf"), name, value, "0 or more")
    for name, seed in {"seed": c.seed, "data.split_seed": c.data.split_seed}.items():
        _require(0 <= seed < 2**32, name, seed, "0 or more and below 2^32")
    _require(0 < c.task.mask_rate < 1, "task.mask_rate", c.task.mask_rate, "above 0 and below 1")
    _require(c.vocabulary.min_pieces >= 2, "vocabulary.min_pieces", c.vocabulary.min_pieces, "at least 2")
    labels = c.task.labels
    _require(labels is None or len(set(labels)) == len(labels) > 1, "task.labels", labels, "two or more different names")
    weights = c.task.class_weights
    fine = not isinstance(weights, list) or (max(weights, default=0) > 0 and all(0 <= w < float("inf") for w in weights))
    _require(fine, "task.class_weights", weights, "finite numbers, 0 or more, one of them above 0")
    threshold, choices, stride = c.task.threshold, c.data.choices, c.data.stride
    _require(threshold == "tune" or 0 <= float(threshold) <= 1, "task.threshold", threshold, "from 0 to 1, or tune")
    _require(choices is None or 0 < len(set(choices)) == len(choices), "data.choices", choices, "different columns")
    columns = [c.data.label] if isinstance(c.data.label, str) else c.data.label
    _require(0 < len(set(columns)) == len(columns), "data.label", columns, "different columns")
    _require(c.data.label_separator != "", "data.label_separator", "empty", "text, or null for lists")
    most = c.data.max_length
    _require(stride is None or 0 <= stride < most, "data.stride", stride, f"0 or more and below data.max_length {most}")
    _require(c.data.max_length >= 3, "data.max_length", c.data.max_length, "at least 3")
    window = c.log.profile_steps
    fine = window is None or (len(window) == 2 and 1 <= window[0] <= window[1])
    _require(fine, "log.profile_steps", window, "the first and the last step, such as [10, 15]")
    _require(c.mesh.data == -1 or c.mesh.data > 0, "mesh.data", c.mesh.data, "-1 or above 0")
    _check_plan(c.plan)
    if found := {"lora", "adapters"} & set(c.plan.presets()):
        _require(len(found) == 1, "plan.preset", c.plan.preset, "lora or adapters, not both")
        _require(not c.model.from_scratch, "model.from_scratch", "true", "false: adapters need a base to be saved for")
        _require(not c.checkpoint.flax, "checkpoint.flax", "true", "false: an adapter has no msgpack (jaxft.export --merge)")
    for name, used in {"optim.schedule plateau": c.optim.schedule == "plateau", "train.patience": c.train.patience}.items():
        if used and not (c.data.validation or c.data.validation_share):
            raise UserError(f"{name} follows evaluations: give data.validation or data.validation_share")
    if c.train.micro_batches > c.train.batch_size:
        raise UserError(
            f"train.micro_batches is {c.train.micro_batches} but train.batch_size is {c.train.batch_size}: a micro-batch "
            "needs at least one example"
        )
    if c.data.validation and c.data.validation_share:
        raise UserError("data.validation and data.validation_share exclude each other: choose a file or a share")
    for name, value in {"eval.every": c.eval.every, "checkpoint.every": c.checkpoint.every}.items():
        duration_steps(value, 1, name)


def paths(c: Config) -> dict[str, object]:
    """Every option that names files, directories or models."""
    return {
        "output_dir": c.output_dir,
        "model.path": c.model.path,
        "vocabulary.file": c.vocabulary.file,
        "vocabulary.tokenizer": c.vocabulary.tokenizer,
        **{f"data.{name}": getattr(c.data, name) for name in ("dataset", "train", "validation", "test")},
        "distill.teacher": c.distill.teacher,
    }


def _check_plan(plan: PlanConfig) -> None:
    presets = plan.presets()
    _require(0 < len(set(presets)) == len(presets), "plan.preset", plan.preset, "one or more different names")
    _require("none" not in presets or len(presets) == 1, "plan.preset", plan.preset, "none alone, or presets without none")
    if presets == ["none"] and not plan.rules:
        raise UserError("plan.preset is none and plan.rules is empty: write rules or choose a preset")
    _require(plan.unfreeze_every != "end", "plan.unfreeze_every", "end", "steps (500) or text such as 0.5 epochs")
    duration_steps(plan.unfreeze_every, 1, "plan.unfreeze_every")
    for rule in plan.rules:
        name = f'plan.rules "{rule.pattern}"'
        cells = {key: value for key, value in vars(rule).items() if key != "pattern"}
        _require(set(cells.values()) != {None}, name, "null in every column", f"decide one of {', '.join(cells)}")
        for column, choices in {"schedule": typing.get_args(Schedule), "init": ("keep", "random")}.items():
            value = cells[column]
            _require(value in (None, *choices), f"{name} {column}", value, f"one of {', '.join(choices)}")
        rate = rule.dropout
        _require(rate is None or 0 <= rate < 1, f"{name} dropout", rate, "0 or more and below 1")
        for column in ("learning_rate", "weight_decay"):
            value = cells[column]
            _require(value is None or 0 <= value < float("inf"), f"{name} {column}", value, "0 or more")
        if rule.unfreeze is not None:
            _require(rule.unfreeze != "end", f"{name} unfreeze", "end", "steps (500) or text such as 0.5 epochs")
            unfreeze_step(rule.unfreeze, 1, f"{name} unfreeze")


def unfreeze_step(value: Duration, steps_per_epoch: int, name: str) -> int:
    """`duration_steps` where 0 means from the start."""
    return 0 if value in (0, "0") else duration_steps(value, steps_per_epoch, name)


def duration_steps(value: Duration, steps_per_epoch: int, name: str) -> int:
    """A duration as a number of steps, at least 1; `end` is more steps than any run has.

    Raises:
      UserError: if the text is not of the form `500`, `500 steps` or `0.5 epochs`.
    """
    if value == "end":
        return sys.maxsize
    number, _, unit = str(value).strip().partition(" ")
    try:
        amount = float(number)
    except ValueError:
        amount = -1.0
    unit = unit.strip().removesuffix("s") or "step"
    if not 0 < amount < float("inf") or unit not in ("step", "epoch") or (unit == "step" and amount != int(amount)):
        raise UserError(f'{name} is "{value}": give steps (500) or text such as "500 steps", "0.5 epochs" or "end"')
    return max(1, round(min(amount * steps_per_epoch, MOST))) if unit == "epoch" else int(amount)


def _require(holds: bool, name: str, value: object, right: str) -> None:
    if not holds:
        raise UserError(f"{name} is {value}: must be {right}")
