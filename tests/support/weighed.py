"""Training files of every kind of task whose rows have a weight, and configs of runs on them."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxft.config import Config
from tests.support import choices, questions, running_text, tagged, tiny

COLUMN = "share"
ROWS = 24


def weight_of(row: int) -> float:
    return [1, 0, 2.5][row % 3]


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    lines = [json.dumps({**row, COLUMN: weight_of(i)}) for i, row in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def _texts(label: Callable[[random.Random], Any]) -> list[dict[str, Any]]:
    rng = random.Random(0)
    return [{"text": " ".join(rng.choices(tiny.WORDS, k=rng.randint(1, 9))), "label": label(rng)} for _ in range(ROWS)]


def _classes(folder: Path) -> dict[str, Any]:
    path = folder / "train.csv"
    tiny.write_rows(path, ROWS)
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{header},{COLUMN}", *(f"{x},{weight_of(i)}" for i, x in enumerate(lines))]) + "\n")
    return {"data": {"train": str(path)}, "task": {"class_weights": [1.0, 2.0, 0.5]}}


def _several_labels(folder: Path) -> dict[str, Any]:
    rows = _texts(lambda rng: rng.sample(tiny.LABELS, k=rng.randint(0, 3)))
    rows[0]["label"] = tiny.LABELS
    return {"data": {"train": _write(folder / "train.jsonl", rows)}, "task": {"problem": "multi_label", "threshold": 0.5}}


def _numbers(folder: Path) -> dict[str, Any]:
    rows = _texts(lambda rng: round(rng.random(), 3))
    return {"data": {"train": _write(folder / "train.jsonl", rows)}, "task": {"problem": "regression"}}


def _tags(folder: Path) -> dict[str, Any]:
    rows = [{"words": words, "tags": tags} for words, tags in tagged.sentences(0, ROWS)]
    data = {"train": _write(folder / "train.jsonl", rows), "text": "words", "label": "tags", "max_length": 16}
    return {"data": data, "task": {"name": "token-classification"}}


def _spans(folder: Path) -> dict[str, Any]:
    document = questions.nested(questions.make(ROWS, seed=0, unanswerable=0.3, longest=34))
    every = [qa for article in document["data"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    for i, qa in enumerate(every):
        qa[COLUMN] = weight_of(i)
    (folder / "train.json").write_text(json.dumps(document))
    data = {"train": str(folder / "train.json"), "stride": 8}
    return {"data": data, "task": {"name": "question-answering", "unanswerable": True}}


def _choices(folder: Path) -> dict[str, Any]:
    rng = random.Random(1)
    rows = [choices.row(rng) for _ in range(ROWS)]
    data = {"train": _write(folder / "train.jsonl", rows), **choices.SWAG}
    return {"data": data, "task": {"name": "multiple-choice"}}


def _words(folder: Path) -> dict[str, Any]:
    rng = random.Random(2)
    rows = [{"text": " ".join(running_text.sentence(rng, most=12) for _ in range(rng.randint(1, 3)))} for _ in range(ROWS)]
    data = {"train": _write(folder / "train.jsonl", rows), "documents": "lines", "max_length": 16}
    return {"data": data, "task": {"name": "fill-mask", "mask_rate": 0.3}}


KINDS = {
    "classes": _classes,
    "several labels": _several_labels,
    "numbers": _numbers,
    "tags": _tags,
    "spans": _spans,
    "choices": _choices,
    "words": _words,
}


def configure(kind: str, model: Path, folder: Path, output: Path, /, **data: Any) -> Config:
    """The config of a run on rows with weights, which `data` may change."""
    own = KINDS[kind](folder)
    own["data"] = {"validation": None, "weight": COLUMN, **own["data"], **data}
    return tiny.run_config(model, folder, output, model={"path": str(model), **tiny.NO_DROPOUT}, **own)
