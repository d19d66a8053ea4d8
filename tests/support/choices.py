"""Small multiple-choice data in SWAG's columns, made of the words of `tiny`, and configs of runs on it."""

import random
from pathlib import Path

from tests.support import tiny

ENDINGS = ["ending0", "ending1", "ending2"]


SWAG = {"text": "sent1", "text_pair": "sent2", "choices": ENDINGS, "max_length": 32}


def row(rng: random.Random) -> dict:
    """A row whose right ending contains "song"."""
    right = rng.randrange(3)
    others = ["storm", "lake"]
    clues = ["song" if choice == right else rng.choice(others) for choice in range(3)]
    endings = [" ".join([*rng.choices(tiny.WORDS, k=rng.randint(0, 5)), clue]) for clue in clues]
    context = " ".join(rng.choices([*tiny.WORDS, *others], k=rng.randint(1, 6)))
    beginning = rng.choice(["the", "a bright", ""])
    return {"sent1": context, "sent2": beginning, **dict(zip(ENDINGS, endings, strict=True)), "label": right}


def configure(model: Path, folder: Path, output: Path, /, **sections):
    data = {"train": str(folder / "train.jsonl"), "validation": str(folder / "dev.jsonl"), **SWAG}
    sections = {"task": {"name": "multiple-choice"}, **sections, "data": {**data, **sections.get("data", {})}}
    return tiny.run_config(model, folder, output, **sections)
