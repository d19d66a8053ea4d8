"""Translate a recipe into `TrainingArguments` and a PyTorch model."""

import dataclasses
import math
from typing import Any

from jaxft.config import Config, RuleConfig
from jaxft.config.cli import as_dict, flatten
from jaxft.config.durations import duration_steps
from jaxft.core.errors import UserError
from jaxft.core.model_source import resolve
from jaxft.run.setup import Run

# Options that may differ from their defaults: those that the peer applies, and sections that do not change results.
CARRIED = {
    *(f"model.{x}" for x in ("path", "revision", "dropout", "attention_dropout", "classifier_dropout", "from_scratch")),
    *(f"task.{x}" for x in ("name", "labels", "problem", "tag_scheme", "unanswerable", "null_threshold", "n_best")),
    *(f"task.{x}" for x in ("max_answer_length", "misplaced_answers", "mask_rate", "threshold")),
    *(f"optim.{x}" for x in ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon", "schedule", "warmup", "clip")),
    *(f"train.{x}" for x in ("epochs", "max_steps", "batch_size", "label_smoothing")),
    *("plan.rules", "seed", "output_dir"),
}
SECTIONS = ("checkpoint", "data", "eval", "log", "mesh", "runtime")
HEAD = r"^heads\."
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def changed(config: Config) -> dict[str, Any]:
    """The options of a config that differ from their defaults, by dotted name."""
    defaults = flatten(as_dict(Config()))
    return {name: value for name, value in flatten(as_dict(config)).items() if value != defaults[name]}


def check(config: Config) -> None:
    """Raise a UserError that names an option which the peer does not apply."""
    for name, value in changed(config).items():
        if name not in CARRIED and name.split(".")[0] not in SECTIONS:
            raise UserError(f"{name} is {value}: the peer in PyTorch carries over only {', '.join(sorted(CARRIED))}")
    if config.optim.schedule not in SCHEDULES:
        raise UserError(f"optim.schedule is {config.optim.schedule}: the peer has {', '.join(SCHEDULES)}")
    head_multiplier(config)


def head_multiplier(config: Config) -> float:
    """The multiplier of the head's learning rate, the only rule that the peer applies."""
    rules = config.plan.rules
    if not rules:
        return 1.0
    rate = rules[0].learning_rate
    if rules != [RuleConfig(pattern=HEAD, learning_rate=rate)]:
        raise UserError(f"plan.rules: the peer knows one rule, {{pattern: '{HEAD}', learning_rate: ...}}")
    return float(rate or 1.0)


def evaluate_every(run: Run) -> int | None:
    """Steps between evaluations; None if only the model after the last step is evaluated."""
    every = duration_steps(run.config.eval.every, run.steps_per_epoch, "eval.every")
    best = run.config.checkpoint.select == "best" and "validation" in run.data
    return every if best and every < run.total_steps else None


def arguments(run: Run, folder: str, **more: Any) -> Any:
    """The `TrainingArguments` of a run.

    Args:
      run: jaxft's run.
      folder: where Trainer stores models if the best evaluation is chosen.
      **more: further arguments.
    """
    import torch
    import transformers

    config, optim, every = run.config, run.config.optim, evaluate_every(run)
    warmup = math.ceil(optim.warmup * run.total_steps) if optim.warmup < 1 else int(optim.warmup)
    choose: dict[str, Any] = {"save_strategy": "no"}
    if every:
        choose = {
            "eval_strategy": "steps",
            "eval_steps": every,
            "save_strategy": "steps",
            "save_steps": every,
            "save_total_limit": 1,
            "save_only_model": True,
            "load_best_model_at_end": True,
            "metric_for_best_model": run.metric,
            "greater_is_better": run.task.metrics[run.metric],
        }
    return transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=config.train.batch_size,
        per_device_eval_batch_size=config.eval.batch_size,
        max_steps=run.total_steps,
        learning_rate=optim.learning_rate,
        lr_scheduler_type=SCHEDULES[optim.schedule],
        warmup_steps=warmup,
        weight_decay=optim.weight_decay,
        adam_beta1=0.9 if optim.beta1 is None else optim.beta1,
        adam_beta2=0.999 if optim.beta2 is None else optim.beta2,
        adam_epsilon=1e-8 if optim.epsilon is None else optim.epsilon,
        label_smoothing_factor=config.train.label_smoothing,
        max_grad_norm=optim.clip or 0.0,
        seed=config.seed,
        report_to=[],
        logging_steps=100,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
        **choose,
        **more,
    )


def make_model(auto: Any, config: Config, **settings: Any) -> Any:
    """A model of an `AutoModelFor...` class with the recipe's weights and dropout rates."""
    import transformers

    own = config.model
    rates = {
        "hidden_dropout_prob": own.dropout,
        "attention_probs_dropout_prob": own.attention_dropout,
        "classifier_dropout": own.classifier_dropout,
    }
    settings |= {name: rate for name, rate in rates.items() if rate is not None}
    path = str(resolve(own.path or "", own.revision))
    if own.from_scratch:
        return auto.from_config(transformers.AutoConfig.from_pretrained(path, **settings))
    return auto.from_pretrained(path, ignore_mismatched_sizes=True, **settings)


def named(labels: tuple[str, ...]) -> dict[str, Any]:
    """The fields of config.json that name the labels."""
    return {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}


@dataclasses.dataclass(frozen=True)
class Peer:
    """What `Trainer` needs for a task.

    Attributes:
      model: in PyTorch.
      data: the features of every split, a list of dicts.
      collator: makes a padded batch of features.
      score: (split, `EvalPrediction`) -> metrics with jaxft's names.
      reduce: (logits, labels) -> the part of a batch's logits that is stored; None stores them all.
    """

    model: Any
    data: dict[str, list[dict[str, Any]]]
    collator: Any
    score: Any
    reduce: Any = None
