"""The limits of a config, checked before anything starts."""

import sys

from jaxft.config import Config, Duration
from jaxft.errors import UserError


def check(config: Config) -> None:
    """Check ranges and exclusive options.

    Raises:
      UserError: naming the field, the value received and what would be right.
    """
    c = config
    shares = {
        "model.dropout": c.model.dropout,
        "model.attention_dropout": c.model.attention_dropout,
        "model.classifier_dropout": c.model.classifier_dropout,
        "data.validation_share": c.data.validation_share,
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
        "log.every": c.log.every,
        "runtime.unroll": c.runtime.unroll,
    }
    for name, value in positive.items():
        _require(value is None or 0 < value < float("inf"), name, value, "a finite number above 0")
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
    _require(0 <= c.seed < 2**32, "seed", c.seed, "0 or more and below 2^32")
    _require(0 < c.task.mask_rate < 1, "task.mask_rate", c.task.mask_rate, "above 0 and below 1")
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
    _require(c.mesh.data == -1 or c.mesh.data > 0, "mesh.data", c.mesh.data, "-1 or above 0")
    for rule in c.plan.rules:
        _require(0 <= rule.learning_rate < float("inf"), "plan.rules learning_rate", rule.learning_rate, "0 or more")
    if c.optim.schedule == "plateau" and not (c.data.validation or c.data.validation_share):
        raise UserError("optim.schedule plateau follows evaluations: give data.validation or data.validation_share")
    if c.train.micro_batches > c.train.batch_size:
        raise UserError(
            f"train.micro_batches is {c.train.micro_batches} but train.batch_size is {c.train.batch_size}: a micro-batch "
            "needs at least one example"
        )
    if c.data.validation and c.data.validation_share:
        raise UserError("data.validation and data.validation_share exclude each other: choose a file or a share")
    if c.plan.preset == "none" and not c.plan.rules:
        raise UserError("plan.preset is none and plan.rules is empty: write rules or choose a preset")
    for name, value in {"eval.every": c.eval.every, "checkpoint.every": c.checkpoint.every}.items():
        duration_steps(value, 1, name)


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
    return max(1, round(amount * steps_per_epoch)) if unit == "epoch" else int(amount)


def _require(holds: bool, name: str, value: object, right: str) -> None:
    if not holds:
        raise UserError(f"{name} is {value}: must be {right}")
