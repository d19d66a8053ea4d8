"""The flags of Hugging Face's Trainer scripts (transformers 4.57 and 5: TrainingArguments, run_*.py) and their options."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxft.core.errors import UserError, nearest

Values = dict[str, Any]


@dataclass(frozen=True)
class Flag:
    """A flag.

    Attributes:
      kind: the type of its value; bool flags may be given without a value.
      option: the dotted option of jaxft that it sets; "" if it sets none.
      choices: Hugging Face's value -> jaxft's value; other values are refused.
      several: whether values are given as several words.
      computed: whether `convert` or `scripts` compute the option's value from this flag and others.
      effect: what a flag that sets no option does.
      note: what the report adds to the option.
      ignored: why the flag has no effect; "" if it has one.
      refused: what to do instead, if the flag is an error (a bool flag only if it is true).
    """

    kind: type = str
    option: str = ""
    choices: Mapping[str, Any] | None = None
    several: bool = False
    computed: bool = False
    effect: str = ""
    note: str = ""
    ignored: str = ""
    refused: str = ""


_HUB = "jaxft pushes nothing; upload OUTPUT_DIR/model with `hf upload`"
_TORCH = "it belongs to PyTorch; jaxft splits over devices with mesh.data and mesh.fsdp"
_COMPILED = "every step is compiled"
# As HfArgumentParser parses them.
BOOLS = {**dict.fromkeys(("yes", "true", "t", "y", "1"), True), **dict.fromkeys(("no", "false", "f", "n", "0"), False)}
SCHEDULES = {
    **{name: name for name in ("linear", "cosine", "polynomial", "inverse_sqrt", "constant")},
    **{"cosine_with_restarts": "cosine_restarts", "constant_with_warmup": "constant"},
}

OPTIMIZERS = {
    **dict.fromkeys(
        ("adamw", "adamw_hf", "adamw_torch", "adamw_torch_fused", "adamw_apex_fused", "adamw_torch_xla"), "adamw"
    ),
    **{name: name for name in ("adafactor", "sgd", "rmsprop", "adagrad")},
    **dict.fromkeys(("lion", "lion_32bit"), "lion"),
}
# all: those whose packages are installed
REPORT_TO = {**{name: name for name in ("tensorboard", "wandb", "mlflow", "trackio", "all")}, "none": "none", "[]": "none"}

COMMON: dict[str, Flag] = {
    # model
    "model_name_or_path": Flag(option="model.path"),
    "model_revision": Flag(option="model.revision"),
    "tokenizer_name": Flag(str, "vocabulary.tokenizer", computed=True, note="known words keep their embeddings"),
    "config_name": Flag(effect="must be --model_name_or_path, whose config.json is used"),
    "cache_dir": Flag(effect="folder of downloads from the hub, in place of HF_HUB_CACHE"),
    "token": Flag(refused="set the environment variable HF_TOKEN"),
    "trust_remote_code": Flag(bool, refused="code from the hub is never run"),
    "use_fast_tokenizer": Flag(bool, ignored="fast tokenizers are always used"),
    "ignore_mismatched_sizes": Flag(bool, ignored="a different number of labels always makes a new head"),
    "low_cpu_mem_usage": Flag(bool, ignored="weights are read tensor by tensor"),
    "torch_dtype": Flag(refused="use --bf16 for train.dtype bfloat16"),
    # data
    "dataset_name": Flag(option="data.dataset"),
    "dataset_config_name": Flag(option="data.dataset_config"),
    "train_file": Flag(option="data.train"),
    "validation_file": Flag(option="data.validation"),
    "test_file": Flag(option="data.test"),
    "max_seq_length": Flag(int, "data.max_length", computed=True),
    "max_train_samples": Flag(int, "data.max_train_examples"),
    "max_eval_samples": Flag(int, "data.max_eval_examples"),
    "max_predict_samples": Flag(int, effect="number of rows of --test_file to predict, the first ones"),
    "pad_to_max_length": Flag(bool, "data.layout", {"True": "pad", "False": "pack"}),
    "overwrite_cache": Flag(bool, "data.cache", {"True": False, "False": True}),
    "preprocessing_num_workers": Flag(int, ignored="the tokenizer uses all cores"),
    "dataloader_num_workers": Flag(int, ignored="a thread prepares batches ahead (data.prefetch)"),
    "dataloader_pin_memory": Flag(bool, ignored="batches are put on the device ahead"),
    "dataloader_drop_last": Flag(bool, refused="every example is trained on in every epoch"),
    "group_by_length": Flag(bool, ignored="rows are packed, so no padding is computed"),
    "remove_unused_columns": Flag(bool, ignored="only the columns that the task needs are read"),
    # actions
    "do_train": Flag(bool, effect="train on --train_file"),
    "do_eval": Flag(bool, effect="evaluate on --validation_file"),
    "do_predict": Flag(bool, effect="write predictions for --test_file to OUTPUT_DIR/predictions.jsonl"),
    "output_dir": Flag(option="output_dir"),
    "overwrite_output_dir": Flag(bool, ignored="the same command resumes; another run's directory is refused"),
    "resume_from_checkpoint": Flag(effect="a run always resumes in its own --output_dir"),
    "seed": Flag(int, "seed"),
    "data_seed": Flag(int, "data.order_seed"),
    # optimizer
    "learning_rate": Flag(float, "optim.learning_rate"),
    "weight_decay": Flag(float, "optim.weight_decay"),
    "adam_beta1": Flag(float, "optim.beta1"),
    "adam_beta2": Flag(float, "optim.beta2"),
    "adam_epsilon": Flag(float, "optim.epsilon"),
    "max_grad_norm": Flag(float, "optim.clip", computed=True),
    "lr_scheduler_type": Flag(str, "optim.schedule", SCHEDULES, computed=True),
    "lr_scheduler_kwargs": Flag(effect="a JSON object with num_cycles, power or lr_end: optim.cycles, power and end_factor"),
    "warmup_steps": Flag(float, "optim.warmup", computed=True),
    "warmup_ratio": Flag(float, "optim.warmup", computed=True),
    "optim": Flag(str, "optim.name", OPTIMIZERS, computed=True),
    "adafactor": Flag(bool, "optim.name", computed=True),
    # the loop
    "num_train_epochs": Flag(float, "train.epochs"),
    "max_steps": Flag(int, "train.max_steps"),
    "per_device_train_batch_size": Flag(int, "train.batch_size", computed=True),
    "per_device_eval_batch_size": Flag(int, "eval.batch_size", computed=True),
    "gradient_accumulation_steps": Flag(int, "train.micro_batches"),
    "label_smoothing_factor": Flag(float, "train.label_smoothing"),
    "bf16": Flag(bool, "train.dtype", computed=True),
    "fp16": Flag(bool, "train.dtype", computed=True, note="bfloat16 has the range of float32, so it needs no loss scaling"),
    "fp16_opt_level": Flag(ignored=_TORCH),
    "half_precision_backend": Flag(ignored=_TORCH),
    "tf32": Flag(bool, "runtime.precision", {"True": "tensorfloat32", "False": "float32"}),
    "eval_strategy": Flag(str, "eval.every", computed=True),
    "evaluation_strategy": Flag(str, "eval.every", computed=True),
    "eval_steps": Flag(int, "eval.every", computed=True),
    "save_strategy": Flag(str, "checkpoint.every", computed=True),
    "save_steps": Flag(int, "checkpoint.every", computed=True),
    "save_total_limit": Flag(int, "checkpoint.keep", computed=True),
    "save_only_model": Flag(bool, ignored="OUTPUT_DIR/model is only the model; checkpoints are for resuming"),
    "save_safetensors": Flag(bool, ignored="models are always saved as safetensors"),
    "load_best_model_at_end": Flag(bool, "checkpoint.select", {"True": "best", "False": "last"}),
    "metric_for_best_model": Flag(str, "eval.metric", computed=True),
    "greater_is_better": Flag(bool, ignored="every metric knows its direction"),
    "logging_steps": Flag(int, "log.every"),
    "logging_strategy": Flag(choices={"steps": "steps"}, effect="steps, the only strategy that is supported"),
    "logging_dir": Flag(ignored="TensorBoard files are in OUTPUT_DIR/tensorboard"),
    "logging_first_step": Flag(bool, refused="log.every counts from step 1"),
    "report_to": Flag(str, "log.trackers", REPORT_TO, several=True, computed=True),
    "run_name": Flag(option="log.run_name"),
    "project": Flag(option="log.project"),
    "trackio_space_id": Flag(refused="set the environment variable TRACKIO_SPACE_ID"),
    "disable_tqdm": Flag(bool, "log.progress", {"True": False, "False": True}),
    "log_level": Flag(ignored="metrics.jsonl has everything"),
    "prediction_loss_only": Flag(bool, ignored="metrics are computed on the device"),
    "eval_accumulation_steps": Flag(int, ignored="the memory of evaluation does not grow with the data"),
    "gradient_checkpointing": Flag(bool, "runtime.gradient_checkpointing", {"True": True, "False": False}),
    "gradient_checkpointing_kwargs": Flag(ignored=_TORCH),
    "torch_compile": Flag(bool, ignored=_COMPILED),
    "jit_mode_eval": Flag(bool, ignored=_COMPILED),
    "ddp_find_unused_parameters": Flag(bool, ignored=_TORCH),
    "local_rank": Flag(int, ignored=_TORCH),
    "no_cuda": Flag(bool, refused="set the environment variable JAX_PLATFORMS=cpu"),
    "use_cpu": Flag(bool, refused="set the environment variable JAX_PLATFORMS=cpu"),
    "deepspeed": Flag(refused=_TORCH),
    "fsdp": Flag(refused=_TORCH),
    "neftune_noise_alpha": Flag(float, "regularization.neftune"),
    "push_to_hub": Flag(bool, refused=_HUB),
    "hub_model_id": Flag(refused=_HUB),
    "hub_token": Flag(refused=_HUB),
}


def value_of(name: str, flag: Flag, text: str) -> Any:
    """Parse a flag's value, or raise a UserError if it has the wrong type or jaxft cannot honour it."""
    if flag.kind is bool:
        if text.lower() not in BOOLS:
            raise UserError(f"--{name} is {text}: must be true or false")
        value: Any = BOOLS[text.lower()]
    else:
        try:
            value = flag.kind(text)
        except ValueError:
            raise UserError(f"--{name} is {text}: must be {'a whole number' if flag.kind is int else 'a number'}") from None
    if flag.refused and value is not False:
        raise UserError(f"--{name} is not honoured: {flag.refused}")
    if flag.choices is not None:
        if str(value) not in flag.choices:
            raise UserError(f"--{name} is {value}: must be one of {', '.join(flag.choices)}")
        if flag.option and not flag.computed:
            value = flag.choices[str(value)]
    return value


def parse(script: str, argv: list[str], known: Mapping[str, Flag]) -> Values:
    """Parse `--flag value`, `--flag=value` and bool flags without a value; dashes in names become underscores.

    Raises:
      UserError: for all flags that are unknown, refused, or have no value or one of the wrong type.
    """
    values: Values = {}
    faults: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UserError(f"{word}: expected a flag such as --learning_rate 2e-5")
        name, given, text = word[2:].partition("=")
        name = name.replace("-", "_")
        positive = name.removeprefix("no_")
        if name not in known and not given and positive in known and known[positive].kind is bool:
            name, given, text = positive, "=", "false"  # --no_FLAG, as in HfArgumentParser
        if name not in known:
            faults.append(f"{script} has no flag --{name}{nearest(name, known)}")
            if not given and rest and not rest[0].startswith("--"):
                del rest[0]
            continue
        if not given:
            if known[name].kind is bool and (not rest or rest[0].lower() not in BOOLS):
                text = "true"
            elif not rest:
                faults.append(f"--{name} needs a value")
                break
            else:
                text = rest.pop(0)
        words = [text]
        while known[name].several and not given and rest and not rest[0].startswith("--"):
            words.append(rest.pop(0))
        try:
            parsed = [value_of(name, known[name], word) for word in words]
            values[name] = parsed if known[name].several else parsed[0]
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("; ".join(faults))
    return values
