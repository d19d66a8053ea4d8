"""From the flags of a Hugging Face script to a `Config`, with a line for people about each flag."""

from dataclasses import dataclass
from typing import Any

import jax

from jaxft import cli
from jaxft.config import Config, DataConfig
from jaxft.errors import UserError, nearest
from jaxft.hf.flags import COMMON, Flag, Values, parse
from jaxft.hf.scripts import Script

# What the scripts do when a flag is not given, where jaxft's own default is another.
DEFAULTS = {
    "seed": 42,
    "optim.learning_rate": 5e-5,
    "optim.weight_decay": 0.0,
    "optim.warmup": 0,
    "train.epochs": 3.0,
    "checkpoint.select": "last",
    "log.every": 500,
}
_METRICS = {"matthews_correlation": "mcc", "pearsonr": "pearson", "spearmanr": "spearman"}


@dataclass(frozen=True)
class Job:
    """What a script would do.

    Attributes:
      config: of the training run.
      train, evaluate, predict: what was asked for.
      test: file to predict on.
      reading: how to read data, as options of `evaluate` and `predict`.
      lines: which option each flag became.
    """

    config: Config
    train: bool
    evaluate: bool
    predict: bool
    test: str | None
    reading: tuple[str, ...]
    lines: tuple[str, ...]


def convert(name: str, script: Script, argv: list[str]) -> Job:
    """A script's command line as a job.

    Raises:
      UserError: for a flag that is unknown or cannot be honoured, or flags that do not fit together.
    """
    known = {**COMMON, **script.flags}
    flags = parse(argv, known, lambda flag: f"{name} has no flag --{flag}{nearest(flag, known)}")
    for needed in ("model_name_or_path", "output_dir"):
        if needed not in flags:
            raise UserError(f"{name} needs --{needed}")
    doing = [bool(flags.get(f"do_{what}")) for what in ("train", "eval", "predict")]
    if not any(doing):
        raise UserError(f"{name}: give --do_train, --do_eval or --do_predict")
    direct = {flag.option: flags[key] for key, flag in known.items() if key in flags and flag.option}
    options = {**DEFAULTS, "task.name": script.task, "data.max_length": script.max_length, **direct}
    options |= _batches(flags) | _durations(flags)
    if metric := flags.get("metric_for_best_model"):
        options["eval.metric"] = _METRICS.get(metric.removeprefix("eval_"), metric.removeprefix("eval_"))
    if options.get("train.max_steps", 1) < 0:
        del options["train.max_steps"]
    if "data.dataset" in options:
        options = {"data.train": "train", "data.validation": "validation", **options}
    data = _section(options, "data")
    seen = next((data[split] for split in ("train", "validation", "test") if data.get(split)), None)
    columns = script.columns(flags, DataConfig(**{**data, "train": seen}))
    test = options.pop("data.test", None)
    options = columns | options
    if not doing[1]:
        options.pop("data.validation", None)
    values: dict[str, Any] = {}
    for option, value in options.items():
        section, _, field = option.partition(".")
        if field:
            values.setdefault(section, {})[field] = value
        else:
            values[section] = value
    config = cli.parse(values, [], origin=name, prog=f"python -m jaxft.hf {name}")
    train, evaluate, predict = doing
    sections = ("data", "task", "eval")
    reading = tuple(cli.argument(name, x) for name, x in options.items() if name.partition(".")[0] in sections)
    return Job(config, train, evaluate, predict, test, reading, tuple(_lines(name, flags, known, options)))


def _batches(flags: Values) -> Values:
    """The scripts count examples a device; `train.batch_size` counts those of an optimizer step."""
    devices, parts = jax.device_count(), flags.get("gradient_accumulation_steps", 1)
    return {
        "train.batch_size": flags.get("per_device_train_batch_size", 8) * devices * parts,
        "eval.batch_size": flags.get("per_device_eval_batch_size", 8) * devices,
    }


def _durations(flags: Values) -> Values:
    strategy = flags.get("eval_strategy", flags.get("evaluation_strategy", "no"))
    evaluate = _duration("eval_strategy", strategy, flags.get("eval_steps", flags.get("logging_steps", 500)))
    save = _duration("save_strategy", flags.get("save_strategy", "steps"), flags.get("save_steps", 500))
    return {"eval.every": evaluate, "checkpoint.every": save}


def _duration(flag: str, strategy: str, steps: int) -> Any:
    every = {"no": "end", "steps": steps, "epoch": "1 epoch"}
    if strategy not in every:
        raise UserError(f"--{flag} is {strategy}: must be one of {', '.join(every)}")
    return every[strategy]


def _section(options: Values, section: str) -> Values:
    return {name.partition(".")[2]: value for name, value in options.items() if name.startswith(f"{section}.")}


def _lines(name: str, flags: Values, known: dict[str, Flag], options: Values) -> list[str]:
    read = {
        "per_device_train_batch_size": "train.batch_size",
        "per_device_eval_batch_size": "eval.batch_size",
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
    lines = [f"{name}: what each flag is in jaxft (the whole config will be in OUTPUT_DIR/config.yaml)"]
    for key in flags:
        option = known[key].option or read.get(key, "")
        if option in options:
            lines.append(f"  --{key} is {option} {options[option]}")
        elif known[key].moot:
            lines.append(f"  --{key}: nothing to do, {known[key].moot}")
    named = {known[key].option or read.get(key) for key in flags}
    rest = [f"{k} {v}" for k, v in options.items() if k not in named and k != "task.name"]
    return [*lines, f"  and from the script: {', '.join(rest)}"]
