"""A tiny BERT whose every config field differs from its default, and a tiny vocabulary."""

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import jaxft
from jaxft.config import cli
from jaxft.core import tree
from jaxft.core.tree import Params
from jaxft.models.families import FAMILIES
from jaxft.models.model import Model, make_model

LABELS = ["angry", "calm", "merry"]
CLUES = {"angry": "storm", "calm": "lake", "merry": "song"}
WORDS = ["the", "a", "river", "runs", "over", "old", "stone", "and", "under", "bridge", "bright", "##ly", "sun", "."]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *CLUES.values()]
# Options of a run without dropout, whose random bits take most of a train step's compilation.
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "classifier_dropout": 0.0}

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 41,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.15,
    "attention_probs_dropout_prob": 0.05,
    "classifier_dropout": 0.2,
    "max_position_embeddings": 48,
    "type_vocab_size": 3,
    "initializer_range": 0.05,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 0,
}


def random_params(model: Model, seed: int = 0, spread: float = 0.1) -> Params:
    """Parameters drawn by numpy, none of them zero or one: compiling the initialisers would take seconds."""
    rng = np.random.default_rng(seed)

    def draw(path: tree.Path, leaf: Any) -> np.ndarray:
        return (rng.normal(0, spread, leaf.shape) + (path[-1] == "scale")).astype(np.float32)

    return tree.map_with_path(draw, model.abstract())


def write_model(
    directory: Path, *, labels: Sequence[str] | None = None, kind: str | None = None, seed: int = 0, **changes: Any
) -> Path:
    """Write a model directory with random weights, with the head of a task; `labels` alone make it a classifier."""
    config, kind = CONFIG | changes, kind or ("text-classification" if labels else "feature-extraction")
    config = config | {"architectures": [FAMILIES["bert"].classes[kind]]}
    if labels:
        names = {"id2label": {str(i): x for i, x in enumerate(labels)}, "label2id": {x: i for i, x in enumerate(labels)}}
        config = config | names
    model = make_model(config, kind, "tiny")
    jaxft.save(model, random_params(model, seed, config["initializer_range"]), directory)
    write_tokenizer(directory)
    return directory


def write_tokenizer(directory: Path) -> None:
    """An uncased WordPiece tokenizer over VOCABULARY."""
    (directory / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 48}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def write_rows(path: Path, rows: int, seed: int = 0, columns: Sequence[str] = ("text", "label")) -> Path:
    """Write a csv file whose rows have random words and one clue that determines the label."""
    rng = random.Random(seed)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for _ in range(rows):
            label = rng.choice(LABELS)
            words = [*rng.choices(WORDS, k=rng.randint(1, 12)), CLUES[label]]
            rng.shuffle(words)
            writer.writerow([" ".join(words), label])
    return path


def run_config(model: Path, folder: Path, output: Path, /, **sections: Any) -> Any:
    """The config of a short run on the tiny model and data; `sections` update these defaults."""
    values: dict[str, Any] = {
        "output_dir": str(output),
        "model": {"path": str(model)},
        "data": {
            "train": str(folder / "train.csv"),
            "validation": str(folder / "dev.csv"),
            "max_length": 32,
            "shapes": 1,
        },
        "optim": {"learning_rate": 3e-3},
        "train": {"epochs": 2, "batch_size": 16},
        "mesh": {"data": 1},
        "log": {"every": 2, "progress": False},
        "runtime": {"distributed": "off", "unroll": 1},
    }
    for name, section in sections.items():
        if isinstance(section, dict):
            values[name] = {**values.get(name, {}), **section}
        else:
            values[name] = section
    return cli.parse(values, [], origin="test")
