"""Runs that go on from an earlier checkpoint, and whether they end as the whole run did."""

import json
import shutil
from pathlib import Path

import pytest

from jaxft.train import train
from tests.support import tiny

SPEED = {"examples_per_second", "tokens_per_second"}


MODEL = "model/model.safetensors"


def journal(directory: Path) -> list[dict]:
    """The rows of metrics.jsonl without the two that a clock decides."""
    path = directory / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{k: v for k, v in row.items() if k not in SPEED} for row in rows]


def same_journals(found: list[dict], expected: list[dict], rel: float) -> None:
    """The same rows, with numbers that agree to within rounding."""
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            assert one[key] == (value if isinstance(value, list | dict | None) else pytest.approx(value, rel=rel)), key


def every_third(model: Path, data: Path, output: Path, /, **sections):
    """One epoch of 7 steps with a checkpoint at 3 and 6, all of them kept."""
    sections = {
        "model": {"path": str(model), **tiny.NO_DROPOUT},
        "data": {"validation": None},
        "train": {"epochs": 1, "batch_size": 16},
        "checkpoint": {"every": 3, "keep": 9},
        "log": {"every": 1, "progress": False},
        **sections,
    }
    return tiny.run_config(model, data, output, **sections)


def back_to(step: int, finished: Path, copy: Path) -> None:
    """A copy of a finished run as it was right after the checkpoint of a step."""
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "model")
    for path in (copy / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > step:
            shutil.rmtree(path)


def ends_the_same(model: Path, data: Path, folder: Path, weights: str, /, **sections) -> None:
    """A run in folder/whole, and in folder/half one that goes on from its first checkpoint: weights and journals agree."""
    whole, half = (every_third(model, data, folder / name, **sections) for name in ("whole", "half"))
    train(whole)
    back_to(3, folder / "whole", folder / "half")
    train(half)
    assert (folder / "half" / weights).read_bytes() == (folder / "whole" / weights).read_bytes()
    assert journal(folder / "half") == journal(folder / "whole")


def resumed(config, keep: int) -> None:
    """Run again from an earlier checkpoint; the model that it leaves must be the same."""
    directory = Path(config.output_dir)
    weights = (directory / "model/model.safetensors").read_bytes()
    settings = (directory / "model/config.json").read_text()
    steps = sorted((int(p.name), p) for p in (directory / "checkpoints").iterdir() if p.name.isdigit())
    assert len(steps) > keep
    for _, path in steps[keep:]:
        shutil.rmtree(path)
    shutil.rmtree(directory / "model")
    train(config)
    assert (directory / "model/model.safetensors").read_bytes() == weights
    assert (directory / "model/config.json").read_text() == settings
