"""Tagged sentences made of the words of `tiny`, CoNLL files of them, and configs of runs on them."""

import random
from pathlib import Path

from jaxft.config import Config, DataConfig
from jaxft.data.formats.tagged import read_sentences
from tests.support import tiny

LABELS = ["O", "B-place", "I-place", "B-mood", "I-mood"]
UNITS = [
    (["stone", "bridge"], ["B-place", "I-place"]),
    (["river"], ["B-place"]),
    (["sunly"], ["B-mood"]),
    (["storm"], ["B-mood"]),
    (["the"], ["O"]),
    (["runs", "brightly"], ["O", "O"]),
    (["\u200b"], ["O"]),  # no piece at all
    (["unheard", "."], ["O", "O"]),
]


def sentences(seed: int, count: int, longest: int = 12) -> list[tuple[list[str], list[str]]]:
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        units = rng.choices(UNITS, k=rng.randint(1, longest))
        found.append(([w for words, _ in units for w in words], [t for _, tags in units for t in tags]))
    return found


DEV = sentences(1, 12, longest=24)


def write_conll(path: Path, rows: list[tuple[list[str], list[str]]]) -> Path:
    text = "\n".join("".join(f"{w}\tX\t{t}\n" for w, t in zip(words, tags, strict=True)) for words, tags in rows)
    path.write_text(text, encoding="utf-8")
    return path


def write_files(folder: Path) -> Path:
    """train.conll and dev.conll (DEV); some sentences need several windows of 16 tokens."""
    write_conll(folder / "train.conll", sentences(0, 39))
    write_conll(folder / "dev.conll", DEV)
    return folder


def configure(model: Path, folder: Path, output: Path, /, **sections) -> Config:
    files = {"train": str(folder / "train.conll"), "validation": str(folder / "dev.conll"), "max_length": 16}
    sections["data"] = files | sections.get("data", {})
    sections["task"] = {"name": "token-classification", **sections.get("task", {})}
    return tiny.run_config(model, folder, output, **sections)


def read(path: Path | list[str], *, label: str | None = "label", **options):
    """The rows of a file, or of several, as training data with these options."""
    train = path if isinstance(path, list) else str(path)
    return read_sentences(DataConfig(train=train, **options), "train", label)
