"""Hugging Face's example scripts: their own flags, their defaults, and how they choose columns."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.reading.sources import column_names, read_rows
from jaxft.hf.flags import Flag, Values

Options = dict[str, Any]

# GLUE (Wang et al. 2019, arXiv:1804.07461): (text columns, metric, name of the validation split).
GLUE: dict[str, tuple[tuple[str, ...], str, str]] = {
    "cola": (("sentence",), "mcc", "validation"),
    "mnli": (("premise", "hypothesis"), "accuracy", "validation_matched"),
    "mrpc": (("sentence1", "sentence2"), "f1", "validation"),
    "qnli": (("question", "sentence"), "accuracy", "validation"),
    "qqp": (("question1", "question2"), "f1", "validation"),
    "rte": (("sentence1", "sentence2"), "accuracy", "validation"),
    "sst2": (("sentence",), "accuracy", "validation"),
    "stsb": (("sentence1", "sentence2"), "pearson", "validation"),
    "wnli": (("sentence1", "sentence2"), "accuracy", "validation"),
}

# Columns of the files from gluebenchmark.com that differ from those on the hub: (text columns, label column).
GLUE_FILES = {
    "mnli": (("sentence1", "sentence2"), "gold_label"),
    "mrpc": (("#1 String", "#2 String"), "Quality"),
    "qqp": (("question1", "question2"), "is_duplicate"),
    "stsb": (("sentence1", "sentence2"), "score"),
}


@dataclass(frozen=True)
class Script:
    """A script.

    Attributes:
      task: the Hugging Face task name.
      max_length: the default of --max_seq_length; None means the tokenizer's limit.
      flags: the script's flags besides the common ones.
      columns: (flags, data config) -> options that name the columns and follow from them. `train` of the data config is
        whichever file is given.
      most: an upper bound on the tokenizer's limit; None for no bound.
      stride: the default of --doc_stride; None if the script has no such flag.
      defaults: options for which the script's default differs from jaxft's.
    """

    task: str
    max_length: int | None
    flags: Mapping[str, Flag] = field(default_factory=dict)
    columns: Callable[[Values, DataConfig], Options] = lambda flags, data: {}
    most: int | None = None
    stride: int | None = None
    defaults: Options = field(default_factory=dict)


def _glue(flags: Values, data: DataConfig) -> Options:
    if name := flags.get("task_name", "").lower():
        if name not in GLUE:
            raise UserError(f"--task_name is {flags['task_name']}: must be one of {', '.join(GLUE)}")
        texts, metric, validation = GLUE[name]
        options: Options = {"eval.metric": metric, "data.text": texts[0]}
        if not data.train:
            options |= {"data.dataset": "nyu-mll/glue", "data.dataset_config": name}
            options |= {"data.train": "train", "data.validation": validation}
        elif name in GLUE_FILES and GLUE_FILES[name][1] in column_names(data, "train"):
            texts, options["data.label"] = GLUE_FILES[name]
            options["data.text"] = texts[0]
        regression = name == "stsb"
    else:
        label = data.label if isinstance(data.label, str) else data.label[0]
        names = _columns(data)
        others = [c for c in names if c not in (label, "idx", "id")]
        if not others:
            raise UserError(f'{data.train}: no text column besides "{label}"')
        texts = ("sentence1", "sentence2") if {"sentence1", "sentence2"} <= set(others) else tuple(others[:2])
        options = {"data.text": texts[0]}
        # Without labels, only a fine-tuned model tells the kind of problem.
        regression = label in names and _are_fractions(read_rows(data, "train", needed=[label])[label])
    if len(texts) > 1:
        options["data.text_pair"] = texts[1]
    if regression:
        options["task.problem"] = "regression"
    return options


def _columns(data: DataConfig) -> list[str]:
    if not data.train:
        raise UserError("give --train_file, --validation_file or --test_file, or --dataset_name")
    return column_names(data, "train")


def _are_fractions(labels: Any) -> bool:
    """Whether labels are numbers that are not all whole, which makes run_glue treat the task as regression."""
    try:
        list(map(float, labels))
    except (TypeError, ValueError):
        return False
    return any(isinstance(x, float) or (isinstance(x, str) and not re.fullmatch(r"\s*[-+]?\d+\s*", x)) for x in labels)


def _ner(flags: Values, data: DataConfig) -> Options:
    names = _columns(data)
    text = "tokens" if "tokens" in names else names[0]
    wanted = f"{flags.get('task_name', 'ner').lower()}_tags"
    tags = wanted if wanted in names else names[min(1, len(names) - 1)]
    return {"data.text": flags.get("text_column_name", text), "data.label": flags.get("label_column_name", tags)}


def _mlm(flags: Values, data: DataConfig) -> Options:
    names = _columns(data)
    percentage = flags.get("validation_split_percentage", 5)
    validates = flags.get("do_eval") or flags.get("eval_strategy", flags.get("evaluation_strategy", "no")) != "no"
    share = {} if data.validation or not validates else {"data.validation_share": percentage / 100}
    return {"data.text": "text" if "text" in names else names[0], **share}


SCRIPTS: dict[str, Script] = {
    "run_glue": Script(
        "text-classification",
        128,
        {
            "task_name": Flag(effect=f"GLUE task whose columns, metric and data set are used: {', '.join(GLUE)}"),
            "label_column_name": Flag(option="data.label"),
        },
        columns=_glue,
    ),
    "run_ner": Script(
        "token-classification",
        None,
        {
            "task_name": Flag(effect="the tags are in the column TASK_NAME_tags"),
            "text_column_name": Flag(str, "data.text", computed=True),
            "label_column_name": Flag(str, "data.label", computed=True),
            "label_all_tokens": Flag(bool, "task.label_pieces", {"True": "all", "False": "first"}),
            "return_entity_level_metrics": Flag(bool, ignored="metrics.jsonl always has a table by entity type"),
        },
        columns=_ner,
    ),
    "run_qa": Script(
        "question-answering",
        384,
        {
            "doc_stride": Flag(int, "data.stride"),
            "n_best_size": Flag(int, "task.n_best"),
            "max_answer_length": Flag(int, "task.max_answer_length"),
            "version_2_with_negative": Flag(bool, "task.unanswerable", {"True": True, "False": False}),
            "null_score_diff_threshold": Flag(float, "task.null_threshold"),
        },
        stride=128,
        defaults={"task.null_threshold": 0.0},
    ),
    "run_mlm": Script(
        "fill-mask",
        None,
        {
            "mlm_probability": Flag(float, "task.mask_rate"),
            "line_by_line": Flag(bool, "data.documents", {"True": "lines", "False": "join"}),
            "validation_split_percentage": Flag(int, "data.validation_share", computed=True),
            "config_overrides": Flag(refused="write the sizes into config.json"),
            "model_type": Flag(refused="make a new model with python -m jaxft.vocabulary and set model.from_scratch"),
        },
        columns=_mlm,
        most=1024,
    ),
    "run_swag": Script(
        "multiple-choice",
        None,
        defaults={"data.text": "sent1", "data.text_pair": "sent2", "data.choices": [f"ending{i}" for i in range(4)]},
        most=1024,
    ),
}
# Former names of the scripts.
ALIASES = {f"run_flax_{task}": f"run_{task}" for task in ("glue", "ner", "qa", "mlm")}
ALIASES |= {"run_squad": "run_qa", "run_multiple_choice": "run_swag"}
# Scripts of transformers that have no counterpart here, and the models that they train.
ABSENT = {
    "run_clm": "causal language models",
    "run_fim": "causal language models",
    "run_plm": "XLNet",
    "run_t5_mlm_flax": "T5",
    "run_bart_dlm_flax": "BART",
    "run_summarization": "models that generate text",
    "run_summarization_flax": "models that generate text",
    "run_translation": "models that generate text",
    "run_seq2seq_qa": "models that generate text",
    "run_image_classification": "models of images",
    "run_audio_classification": "models of sound",
    "run_speech_recognition_ctc": "models of sound",
    "run_clip": "models of images and texts",
}
