"""Convert the flags of a Hugging Face script to a `Config`, and report what became of each flag."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from jaxft.config import Config, DataConfig, cli
from jaxft.core.errors import UserError, nearest
from jaxft.core.urls import refuse_url
from jaxft.hf.flags import BOOLS, COMMON, SCHEDULES, Flag, Values, parse
from jaxft.hf.lengths import Limits, choose_max_length, local_limits
from jaxft.hf.scripts import Script

# The scripts' defaults that differ from jaxft's.
DEFAULTS = {
    "seed": 42,
    "optim.learning_rate": 5e-5,
    "optim.weight_decay": 0.0,
    "optim.warmup": 0,
    "train.epochs": 3.0,
    "checkpoint.select": "last",
    "checkpoint.keep": 1_000_000,  # all
    "log.every": 500,
}
# The final learning rate of `get_polynomial_decay_schedule_with_warmup`, whatever the peak.
_POLYNOMIAL_END = 1e-7
_METRICS = {"matthews_correlation": "mcc", "pearsonr": "pearson", "spearmanr": "spearman"}


@dataclass(frozen=True)
class Job:
    """The work that a script's command line asks for.

    Attributes:
      config: the config of the training run.
      train, evaluate, predict: what to do.
      test: the file to predict on.
      evaluate_options: options of `evaluate` that say how to read the data.
      predict_options: options of `predict` that say how to read the data.
      lines: the report, with one line per flag.
    """

    config: Config
    train: bool
    evaluate: bool
    predict: bool
    test: str | None
    evaluate_options: tuple[str, ...]
    predict_options: tuple[str, ...]
    lines: tuple[str, ...]


def convert(name: str, script: Script, argv: list[str], limits: Callable[[str, str | None], Limits] = local_limits) -> Job:
    """Convert a script's command line to a job.

    Args:
      name, script: the script.
      argv: its flags.
      limits: gives the length limits of a model by path and revision; `limits_of` may download from the hub.

    Raises:
      UserError: if a flag is unknown or cannot be honoured, or flags contradict each other.
    """
    known = {**COMMON, **script.flags}
    flags = parse(argv, known, lambda flag: f"{name} has no flag --{flag}{nearest(flag, known)}")
    for needed in ("model_name_or_path", "output_dir"):
        if needed not in flags:
            raise UserError(f"{name} needs --{needed}")
    for flag in ("output_dir", "model_name_or_path", "dataset_name", "train_file", "validation_file", "test_file"):
        refuse_url(f"--{flag}", flags.get(flag))
    train, evaluate, predict = (bool(flags.get(f"do_{what}")) for what in ("train", "eval", "predict"))
    if not (train or evaluate or predict):
        raise UserError(f"{name}: give --do_train, --do_eval or --do_predict")
    strategy = flags.get("eval_strategy", flags.get("evaluation_strategy", "no"))
    validates = evaluate or (train and strategy != "no")  # as in TrainingArguments
    direct = {flag.option: flags[key] for key, flag in known.items() if key in flags and flag.option}
    options = {**DEFAULTS, "task.name": script.task, **script.defaults, **direct}
    options |= _batches(flags) | _durations(flags, strategy) | _selection(flags, strategy) | _learning_rate(flags, options)
    length, notes = choose_max_length(
        script, flags.get("max_seq_length"), limits(options["model.path"], options.get("model.revision"))
    )
    options["data.max_length"] = length
    if script.stride is not None and "doc_stride" not in flags:
        options["data.stride"] = script.stride if script.stride < length - 4 else length // 4
    if options.get("train.max_steps", 1) <= 0:
        del options["train.max_steps"]
    if "data.dataset" in options:
        options = {"data.train": "train", "data.validation": "validation", **options}
    data = _section(options, "data")
    order = ("train", "validation", "test") if train else ("validation", "train", "test")
    seen = next((data[split] for split in order if data.get(split)), None)
    columns = script.columns(flags, DataConfig(**{**data, "train": seen}))
    test = options.pop("data.test", None)
    options = columns | options
    _check_files(name, flags, options, train=train, validates=validates, predict=predict, test=test)
    if not validates:
        options.pop("data.validation", None)
    values: dict[str, Any] = {}
    for option, value in options.items():
        section, _, field = option.partition(".")
        if field:
            values.setdefault(section, {})[field] = value
        else:
            values[section] = value
    config = cli.parse(values, [], origin=name, prog=f"python -m jaxft.hf {name}")
    reading = {x: value for x, value in options.items() if x.partition(".")[0] in ("data", "task", "eval")}
    predicting = {x: value for x, value in reading.items() if x != "data.max_eval_examples"}
    if most := flags.get("max_predict_samples"):
        predicting["data.max_eval_examples"] = most
    lines = [*_report(name, flags, known, options), *notes]
    return Job(config, train, evaluate, predict, test, _arguments(reading), _arguments(predicting), tuple(lines))


def _arguments(options: Values) -> tuple[str, ...]:
    return tuple(cli.argument(name, value) for name, value in options.items())


def _check_files(
    name: str, flags: Values, options: Values, *, train: bool, validates: bool, predict: bool, test: str | None
) -> None:
    """Raise a UserError if data that the flags need is missing."""
    if train and not options.get("data.train"):
        raise UserError(f"{name}: --do_train needs --train_file or --dataset_name")
    resumes = flags.get("resume_from_checkpoint", "true")
    if resumes.lower() not in BOOLS and not Path(resumes).resolve().is_relative_to(Path(options["output_dir"]).resolve()):
        raise UserError(f"--resume_from_checkpoint {resumes}: a run resumes from the checkpoints of its own --output_dir")
    if validates and not (options.get("data.validation") or (train and options.get("data.validation_share"))):
        why = "--do_eval" if flags.get("do_eval") else "--eval_strategy"
        raise UserError(f"{name}: {why} needs --validation_file")
    if predict and test is None:
        raise UserError(f"{name}: --do_predict needs --test_file")


def _batches(flags: Values) -> Values:
    """Batch sizes: the scripts count examples per device, `train.batch_size` counts examples per optimizer step."""
    devices, parts = jax.device_count(), flags.get("gradient_accumulation_steps", 1)
    return {
        "train.batch_size": flags.get("per_device_train_batch_size", 8) * devices * parts,
        "eval.batch_size": flags.get("per_device_eval_batch_size", 8) * devices,
    }


def _durations(flags: Values, strategy: str) -> Values:
    evaluate = _duration("eval_strategy", strategy, flags.get("eval_steps", flags.get("logging_steps", 500)))
    save = _duration("save_strategy", flags.get("save_strategy", "steps"), flags.get("save_steps", 500))
    keep = {"checkpoint.keep": flags["save_total_limit"]} if flags.get("save_total_limit", 0) > 0 else {}
    return {"eval.every": evaluate, "checkpoint.every": save, **keep}


def _selection(flags: Values, strategy: str) -> Values:
    """The metric that selects the best model: the loss unless the flags name one."""
    if flags.get("load_best_model_at_end") and strategy == "no":
        raise UserError("--load_best_model_at_end needs --eval_strategy steps or epoch")
    metric = flags.get("metric_for_best_model", "loss" if flags.get("load_best_model_at_end") else None)
    if metric is None:
        return {}
    plain = metric.removeprefix("eval_")
    return {"eval.metric": _METRICS.get(plain, plain)}


def _learning_rate(flags: Values, options: Values) -> Values:
    """The schedule: `constant` has no warm-up, steps of warm-up take precedence over a ratio, polynomials have an end."""
    share, steps = flags.get("warmup_ratio", 0.0), flags.get("warmup_steps", 0)
    if not 0 <= share <= 1:
        raise UserError(f"--warmup_ratio is {share}: must be from 0 to 1")
    # A warm-up of 1 would mean one step; the float below 1 means all steps.
    warmup = int(steps) if steps >= 1 else steps or min(share, math.nextafter(1, 0))
    kind = flags.get("lr_scheduler_type")
    found: Values = {"optim.warmup": 0 if kind == "constant" else warmup}
    if kind == "polynomial":
        found["optim.end_factor"] = min(1.0, _POLYNOMIAL_END / options["optim.learning_rate"])
    if kind is not None:
        found["optim.schedule"] = SCHEDULES[kind]
    if "max_grad_norm" in flags:
        found["optim.clip"] = flags["max_grad_norm"] or None
    return found


def _duration(flag: str, strategy: str, steps: int) -> Any:
    every = {"no": "end", "steps": steps, "epoch": "1 epoch"}
    if strategy not in every:
        raise UserError(f"--{flag} is {strategy}: must be one of {', '.join(every)}")
    return every[strategy]


def _section(options: Values, section: str) -> Values:
    return {name.partition(".")[2]: value for name, value in options.items() if name.startswith(f"{section}.")}


def _report(name: str, flags: Values, known: dict[str, Flag], options: Values) -> list[str]:
    read = {
        "per_device_train_batch_size": "train.batch_size",
        "per_device_eval_batch_size": "eval.batch_size",
        "max_seq_length": "data.max_length",
        "lr_scheduler_type": "optim.schedule",
        "warmup_steps": "optim.warmup",
        "warmup_ratio": "optim.warmup",
        "max_grad_norm": "optim.clip",
        "save_total_limit": "checkpoint.keep",
        "eval_strategy": "eval.every",
        "evaluation_strategy": "eval.every",
        "eval_steps": "eval.every",
        "save_strategy": "checkpoint.every",
        "save_steps": "checkpoint.every",
        "metric_for_best_model": "eval.metric",
        "text_column_name": "data.text",
        "label_column_name": "data.label",
        "validation_split_percentage": "data.validation_share",
    }
    lines = [f"{name}: the jaxft option for each flag (the whole config will be in OUTPUT_DIR/config.yaml)"]
    for key in flags:
        option = known[key].option or read.get(key, "")
        if option in options:
            lines.append(f"  --{key} is {option} {options[option]}")
        elif known[key].ignored:
            lines.append(f"  --{key}: nothing to do, {known[key].ignored}")
    named = {known[key].option or read.get(key) for key in flags}
    rest = [f"{k} {v}" for k, v in options.items() if k not in named and k != "task.name"]
    return [*lines, f"  and from the script: {', '.join(rest)}"]
