"""Data of five tasks on the tiny model's words, and configs of runs on some of them."""

import json
import random
from pathlib import Path
from typing import Any

from tests.support import choices, questions, running_text, tagged, tiny

# Options of a run without dropout, on one shape, whose validation data every task has.
TASKS: dict[str, dict[str, Any]] = {
    "moods": {"data": {"train": "train.csv", "validation": "dev.csv"}},
    "tags": {"task": {"name": "token-classification"}, "data": {"train": "train.conll", "validation": "dev.conll"}},
    "answers": {
        "task": {"name": "question-answering", "unanswerable": True},
        "data": {"train": "train.json", "validation": "dev.json", "max_length": 32, "stride": 8},
    },
    "words": {
        "task": {"name": "fill-mask", "mask_rate": 0.3},
        "data": {"train": "train.txt", "validation": "dev.txt", "documents": "lines"},
    },
    "endings": {
        "task": {"name": "multiple-choice"},
        "data": {"train": "train.jsonl", "validation": "dev.jsonl", **choices.SWAG},
    },
}


def write_files(folder: Path, moods: int = 39) -> Path:
    """The files of all TASKS, four of which have 39 training examples."""
    for seed, (name, rows) in enumerate({"train": moods, "dev": 20}.items()):
        tiny.write_rows(folder / f"{name}.csv", rows, seed)
        questions.write(folder / f"{name}.json", questions.make(20, seed=seed, unanswerable=0.3, longest=20))
        rng = random.Random(seed)
        lines = [f"{json.dumps(choices.row(rng))}\n" for _ in range(39 if name == "train" else 12)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    tagged.write_files(folder)
    running_text.write(folder / "train.txt", 12)
    running_text.write(folder / "dev.txt", 6, seed=1)
    return folder


def elements(folder: Path, names: list[str], **changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Elements of `tasks`; `changes` are of some of them, by name: options of the element, and of its task and data."""
    found = []
    for name in names:
        own = {key: dict(x) for key, x in TASKS[name].items()}
        for split in ("train", "validation"):
            own["data"][split] = str(folder / own["data"][split])
        for key, value in changes.get(name, {}).items():
            own[key] = {**own.get(key, {}), **value} if isinstance(value, dict) else value
        found.append({"name": name, **own})
    return found


def configure(model: Path, folder: Path, output: Path, names: list[str], /, **sections: Any) -> Any:
    """The config of a short run of some of TASKS; `changes` as in `elements`, other `sections` as in `tiny.run_config`."""
    tasks = elements(folder, names, **sections.pop("changes", {}))
    sections["data"] = {"train": None, "validation": None, **sections.get("data", {})}
    sections["model"] = {"path": str(model), **tiny.NO_DROPOUT, **sections.get("model", {})}
    return tiny.run_config(model, folder, output, tasks=tasks, **sections)
