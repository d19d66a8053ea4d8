"""Texts with several labels and with numeric targets, made of the words of `tiny`, and configs of runs on them."""

import csv
import random
from pathlib import Path

from tests.support import tiny

COLUMNS = {"joy": "song", "calm": "lake", "storm": "storm"}


def write_files(folder: Path) -> Path:
    """train.csv (60 rows) and dev.csv (24): text, its labels as text, as columns of 0 and 1, and two numbers."""
    rng = random.Random(0)
    for name, rows in (("train", 60), ("dev", 24)):
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "tags", *COLUMNS, "length", "songs"])
            for _ in range(rows):
                given = [label for label in COLUMNS if rng.random() < 0.4]
                words = [*rng.choices(tiny.WORDS, k=rng.randint(1, 8)), *(COLUMNS[label] for label in given)]
                rng.shuffle(words)
                hot = [int(label in given) for label in COLUMNS]
                songs = rng.random() + hot[0]
                writer.writerow([" ".join(words), " | ".join(given), *hot, len(words) / 8, f"{songs:.3f}"])
    return folder


MULTI = {"task": {"problem": "multi_label"}, "data": {"label": "tags", "label_separator": "|"}}
TARGETS = {"task": {"problem": "regression"}, "data": {"label": ["length", "songs"]}}


def configure(model: Path, folder: Path, output: Path, base: dict, /, **sections):
    merged = {name: {**base.get(name, {}), **sections.get(name, {})} for name in base.keys() | sections.keys()}
    return tiny.run_config(model, folder, output, **merged)
