"""A small corpus in which the order of words follows a rule, and configs of runs on it."""

import random
from pathlib import Path
from typing import Any

from tests.support import tiny

CYCLE = ["the", "river", "runs", "over", "old", "stone", "and", "under", "bridge", "brightly", "a", "sun"]


def sentence(rng: random.Random, most: int = 9) -> str:
    """Consecutive words of CYCLE, beginning with a random one."""
    start = rng.randrange(len(CYCLE))
    return " ".join(CYCLE[(start + i) % len(CYCLE)] for i in range(rng.randint(3, most)))


def write(path: Path, documents: int, seed: int = 0, lines: int = 4) -> Path:
    """Write a txt file of documents of two or more sentences, one sentence per line."""
    rng = random.Random(seed)
    texts = ["\n".join(sentence(rng) for _ in range(rng.randint(2, lines))) for _ in range(documents)]
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return path


def configure(model: Path, folder: Path, output: Path, task: str, /, **sections: Any) -> Any:
    """The config of a short run of a task on train.txt and dev.txt in a folder."""
    data = {"train": str(folder / "train.txt"), "validation": str(folder / "dev.txt"), "max_length": 40}
    sections["data"] = data | sections.get("data", {})
    sections["task"] = {"name": task, **sections.get("task", {})}
    return tiny.run_config(model, folder, output, **sections)
