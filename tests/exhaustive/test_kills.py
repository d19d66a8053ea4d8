"""Runs of all kinds, killed at random moments from the start of Python to the last file, end with the same bits."""

import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import several, tiny
from tests.support.every_task import KINDS
from tests.support.resuming import Command, journal

ROUNDS, KILLS = 5, 3  # of each kind: 14 kinds x 5 x 3 = 210 kills
SHORT = {
    "train": {"epochs": 3, "batch_size": 16},
    "eval": {"every": 4},
    "checkpoint": {"every": 3, "keep": 2},
    "log": {"every": 1, "progress": False},
}
# Sections of runs of text classification.
CLASSIFICATION: dict[str, dict[str, Any]] = {
    "dropout and micro-batches": {"train": {"epochs": 3, "batch_size": 16, "micro_batches": 2}},
    "gradual unfreezing": {"plan": {"preset": "gradual", "unfreeze_every": 6}},
    "frozen features": {"plan": {"preset": "head"}, "model": tiny.NO_DROPOUT},
    "LoRA": {"plan": {"preset": "lora"}},
    "adversarial": {"adversarial": {"method": "fgm"}, "model": tiny.NO_DROPOUT},
    "augmented texts": {"augment": {"steps": [{"step": "delete"}]}},
    "mixup": {"augment": {"mixup": 0.5}},
    "averaged weights": {"optim": {"ema": 0.9}},
    "held-out rows": {"data": {"validation": None, "validation_share": 0.25}},
}


def _classification(sections, model, data, folder, output):
    return tiny.run_config(model, data, output, **(SHORT | sections))


def _distillation(model, data, folder, output):
    teacher = folder / "teacher"
    if not teacher.exists():
        tiny.write_model(teacher, labels=tiny.LABELS, seed=3)
    # Each run has a cache of its own, so kills come while it is filled, too.
    distill = {"teacher": str(teacher), "cache_dir": f"{output}-cache"}
    return tiny.run_config(model, data, output, **SHORT, distill=distill, model=tiny.NO_DROPOUT)


def _several(model, data, folder, output):
    if not (folder / "train.csv").exists():
        several.write_files(folder)
    return several.configure(model, folder, output, ["moods", "tags"], **SHORT)


def _other_task(kind, model, data, folder, output):
    return KINDS[kind](model, folder, output, **{name: x for name, x in SHORT.items() if name != "train"})


RUNS: dict[str, Callable[..., Any]] = {
    **{name: partial(_classification, sections) for name, sections in CLASSIFICATION.items()},
    **{kind: partial(_other_task, kind) for kind in ("token-classification", "question-answering", "fill-mask")},
    "distillation": _distillation,
    "several tasks": _several,
}


def weights_of(directory: Path) -> dict[str, bytes]:
    """The files of weights of all models in a run's directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*.safetensors")}


@pytest.mark.exhaustive
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_bits(name, tiny_model, tiny_data, tmp_path):
    make = partial(RUNS[name], tiny_model, tiny_data, tmp_path)
    Command(make(tmp_path / "whole"), tmp_path).finish()
    weights = weights_of(tmp_path / "whole")
    assert weights
    begin = time.monotonic()
    Command(make(tmp_path / "again"), tmp_path).finish()
    seconds = time.monotonic() - begin  # with the compiled programs
    rng = random.Random(name)
    killed = 0
    for number in range(ROUNDS):
        output = tmp_path / f"killed-{number}"
        run = Command(make(output), tmp_path)
        for _ in range(KILLS):
            end = time.monotonic() + rng.uniform(0.05, 1) * seconds
            killed += run.kill_when(lambda end=end: time.monotonic() > end)
        run.finish()
        assert weights_of(output) == weights, number
        assert journal(output) == journal(tmp_path / "whole"), number
        shutil.rmtree(output)
    assert killed >= ROUNDS * KILLS / 2, "most runs had ended before they could be killed"
