"""Configs of runs of every task but text classification, by kind: (model, folder for data, output, **sections) -> Config."""

import json
import random
from collections.abc import Callable
from typing import Any

from tests.support import choices, questions, running_text, tagged


def _tags(model, folder, output, /, **sections):
    tagged.write_files(folder)
    return tagged.configure(model, folder, output, **sections, train={"batch_size": 6})


def _questions(model, folder, output, /, **sections):
    for seed, name in enumerate(("train", "dev")):
        questions.write(folder / f"{name}.json", questions.make(88, seed=seed, unanswerable=0.3, longest=34))
    return questions.configure(model, folder, output, **sections)


def _choices(model, folder, output, /, **sections):
    rng = random.Random(1)
    for name in ("train", "dev"):
        rows = [choices.row(rng) for _ in range(60)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return choices.configure(model, folder, output, **sections, train={"batch_size": 9})


def _masked(model, folder, output, /, **sections):
    running_text.write(folder / "train.txt", 60)
    running_text.write(folder / "dev.txt", 20, seed=1)
    sections = {**sections, "data": {"documents": "lines"}, "task": {"mask_rate": 0.3}}
    return running_text.configure(model, folder, output, "fill-mask", **sections)


KINDS: dict[str, Callable[..., Any]] = {
    "token-classification": _tags,
    "question-answering": _questions,
    "multiple-choice": _choices,
    "fill-mask": _masked,
}
