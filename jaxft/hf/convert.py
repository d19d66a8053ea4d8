"""Convert the flags of a Hugging Face script to a `Config`, and report what became of each flag."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxft.config import Config, DataConfig, cli
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.core.model_source import PACKAGE, resolve
from jaxft.core.paths import check_url, is_url
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.hf.flags import BOOLS, COMMON, OPTIMIZERS, REPORT_TO, SCHEDULES, Flag, Values, parse
from jaxft.hf.scripts import Script
from jaxft.models.model import make_model
from jaxft.models.weights.tensor_files import read_model_config
from jaxft.training.trackers import installed

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
_NO_LIMIT = 10**9  # transformers gives 10^30 if a tokenizer states no limit
_UNKNOWN = 512  # if no limit of the model is known
_METRICS = {"matthews_correlation": "mcc", "pearsonr": "pearson", "spearmanr": "spearman"}


class Limits(NamedTuple):
    """Limits on the tokens of a sequence: the tokenizer's `model_max_length`, the model's positions; None if unlimited."""

    tokenizer: int | None = None
    positions: int | None = None


@dataclass(frozen=True)
class Job:
    """The work that a script's command line asks for, with the config of the training run.

    `evaluate_options` and `predict_options` say how these commands read the data, `test` is the file to predict on, and
    `lines` is the report, with one line per flag.
    """

    config: Config
    train: bool
    evaluate: bool
    predict: bool
    test: str | None
    evaluate_options: tuple[str, ...]
    predict_options: tuple[str, ...]
    lines: tuple[str, ...]


def limits_of(path: str, revision: str | None) -> Limits:
    """The limits of a model directory or hub id.

    Raises:
      UserError: if the model is not found or its files cannot be read.
    """
    directory = resolve(path, revision)
    stated = int(load_tokenizer(directory).model_max_length)
    model = make_model(read_model_config(directory), "feature-extraction", str(directory / "config.json"))
    return Limits(stated if stated < _NO_LIMIT else None, model.encoder.config.usable_positions)


def local_limits(path: str, revision: str | None) -> Limits:
    """The limits of a local model; no limits for a hub id, which is not downloaded."""
    return (
        limits_of(path, revision)
        if path.startswith(PACKAGE) or is_url(path) or Path(path).expanduser().is_dir()
        else Limits()
    )


def convert(name: str, script: Script, argv: list[str], limits: Callable[[str, str | None], Limits] = local_limits) -> Job:
    """Convert a script's command line to a job.

    `limits` gives the length limits of a model by path and revision; `limits_of` may download from the hub.

    Raises:
      UserError: if a flag is unknown or cannot be honoured, or flags contradict each other.
    """
    known = {**COMMON, **script.flags}
    flags = parse(name, argv, known)
    for needed in ("model_name_or_path", "output_dir"):
        if needed not in flags:
            raise UserError(f"{name} needs --{needed}")
    for flag in ("output_dir", "model_name_or_path", "dataset_name", "train_file", "validation_file", "test_file"):
        check_url(f"--{flag}", flags.get(flag))
    train, evaluate, predict = (bool(flags.get(f"do_{what}")) for what in ("train", "eval", "predict"))
    if not (train or evaluate or predict):
        raise UserError(f"{name}: give --do_train, --do_eval or --do_predict")
    strategy = flags.get("eval_strategy", flags.get("evaluation_strategy", "no"))
    validates = evaluate or (train and strategy != "no")  # as in TrainingArguments
    direct = {known[key].option: value for key, value in flags.items() if known[key].option and not known[key].computed}
    options = {**DEFAULTS, "task.name": script.task, **script.defaults, **direct}
    options |= _batches(flags) | _durations(flags, strategy) | _selection(flags, strategy) | _learning_rate(flags, options)
    options |= _optimizer(flags) | _dtype(flags) | _tokenizer(flags) | _trackers(flags)
    of_model = limits(options["model.path"], options.get("model.revision"))
    length, notes = choose_max_length(script, flags.get("max_seq_length"), of_model)
    options["data.max_length"] = length
    if script.stride is not None and "doc_stride" not in flags:
        options["data.stride"] = script.stride if script.stride < length - 4 else length // 4
    if options.get("train.max_steps", 1) <= 0:
        del options["train.max_steps"]
    if "data.dataset" in options:
        options = {"data.train": "train", "data.validation": "validation", **options}
    data = {name.removeprefix("data."): value for name, value in options.items() if name.startswith("data.")}
    order = ("train", "validation", "test") if train else ("validation", "train", "test")
    given = next((data[split] for split in order if data.get(split)), None)
    columns = script.columns(flags, DataConfig(**{**data, "train": given}))
    test = options.pop("data.test", None)
    options = columns | options
    _check_files(name, flags, options, train=train, validates=validates, predict=predict, test=test)
    if not validates:
        options.pop("data.validation", None)
    values = tree.unflatten({tuple(option.split(".")): value for option, value in options.items()})
    config = cli.parse(values, [], origin=name)
    reading = {x: value for x, value in options.items() if x.partition(".")[0] in ("data", "task", "eval")}
    predicting = {x: value for x, value in reading.items() if x != "data.max_eval_examples"}
    if most := flags.get("max_predict_samples"):
        predicting["data.max_eval_examples"] = most
    evaluate_options, predict_options = (tuple(starmap(cli.argument, x.items())) for x in (reading, predicting))
    lines = (*_report(name, flags, known, options), *notes)
    return Job(config, train, evaluate, predict, test, evaluate_options, predict_options, lines)


def choose_max_length(script: Script, given: int | None, limits: Limits) -> tuple[int, list[str]]:
    """(the length at which the script truncates, messages if it is not the length that was given).

    Scripts without a default use the tokenizer's limit. If a script's default exceeds the model's positions, the script
    would fail; here the number of positions is used.
    """
    if given is not None:
        if limits.tokenizer is None or given <= limits.tokenizer:
            return given, []
        line = f"  --max_seq_length {given} is more than the tokenizer's model_max_length: {limits.tokenizer} is used"
        return limits.tokenizer, [line]
    known = [x for x in (script.max_length, limits.tokenizer, limits.positions) if x is not None]
    return min([*(known or [_UNKNOWN]), *([script.most] if script.most else [])]), []


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
    found |= _schedule_arguments(flags, options)
    if "max_grad_norm" in flags:
        found["optim.clip"] = flags["max_grad_norm"] or None
    return found


_SCHEDULE_ARGUMENTS = {"num_cycles": "optim.cycles", "power": "optim.power", "lr_end": "optim.end_factor"}


def _schedule_arguments(flags: Values, options: Values) -> Values:
    """The numbers of a schedule from the JSON of --lr_scheduler_kwargs."""
    text = flags.get("lr_scheduler_kwargs", "{}")
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    names = ", ".join(_SCHEDULE_ARGUMENTS)
    if not isinstance(given, dict) or not given.keys() <= _SCHEDULE_ARGUMENTS.keys():
        raise UserError(f"--lr_scheduler_kwargs is {text}: must be a JSON object with numbers for {names}")
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in given.values()):
        raise UserError(f"--lr_scheduler_kwargs is {text}: {names} must be numbers")
    kind = flags.get("lr_scheduler_type", "linear")
    for name in given:
        of = "cosine_with_restarts" if name == "num_cycles" else "polynomial"
        if kind != of:
            raise UserError(f"--lr_scheduler_kwargs is {text}: {name} belongs to --lr_scheduler_type {of}, not {kind}")
    if given.get("num_cycles", 1) % 1:
        raise UserError(f"--lr_scheduler_kwargs is {text}: num_cycles must be a whole number")
    if "lr_end" in given:
        given["lr_end"] /= options["optim.learning_rate"]
    return {_SCHEDULE_ARGUMENTS[name]: int(x) if name == "num_cycles" else float(x) for name, x in given.items()}


def _optimizer(flags: Values) -> Values:
    """The optimizer of --optim or --adafactor."""
    name = "adafactor" if flags.get("adafactor") else OPTIMIZERS.get(flags.get("optim", ""))
    return {"optim.name": name} if name else {}


def _dtype(flags: Values) -> Values:
    """bfloat16 for --bf16 and --fp16."""
    if "bf16" not in flags and "fp16" not in flags:
        return {}
    return {"train.dtype": "bfloat16" if flags.get("bf16") or flags.get("fp16") else "float32"}


def _tokenizer(flags: Values) -> Values:
    """Another tokenizer than the model's; another config.json cannot be given."""
    path = flags.get("model_name_or_path")
    if (config := flags.get("config_name", path)) != path:
        raise UserError(f"--config_name is {config}: must be --model_name_or_path, whose config.json is used")
    other = flags.get("tokenizer_name", path)
    return {} if other == path else {"vocabulary.tokenizer": other}


def _trackers(flags: Values) -> Values:
    """The trackers of --report_to; `all` are those whose packages are installed."""
    words = [REPORT_TO[word] for word in flags.get("report_to", [])]
    if "none" in words and len(words) > 1:
        raise UserError(f"--report_to is {' '.join(words)}: none must be alone")
    named = [name for word in words if word != "none" for name in (installed() if word == "all" else [word])]
    return {"log.trackers": list(dict.fromkeys(named))} if words else {}


def _duration(flag: str, strategy: str, steps: int) -> Any:
    every = {"no": "end", "steps": steps, "epoch": "1 epoch"}
    if strategy not in every:
        raise UserError(f"--{flag} is {strategy}: must be one of {', '.join(every)}")
    return every[strategy]


def _report(name: str, flags: Values, known: dict[str, Flag], options: Values) -> list[str]:
    lines = [f"{name}: the jaxft option for each flag (the whole config will be in OUTPUT_DIR/config.yaml)"]
    for key in flags:
        option = known[key].option
        if option in options:
            note = f" ({known[key].note})" if known[key].note else ""
            lines.append(f"  --{key} is {option} {options[option]}{note}")
        elif known[key].ignored:
            lines.append(f"  --{key}: nothing to do, {known[key].ignored}")
    named = {known[key].option for key in flags}
    rest = [f"{k} {v}" for k, v in options.items() if k not in named and k != "task.name"]
    return [*lines, f"  and from the script: {', '.join(rest)}"]
