"""Runs of all kinds, killed at random moments from the start of Python to the last file, end with the same bits."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jaxft.config import cli
from tests.support import several, tiny
from tests.support.every_task import KINDS
from tests.support.resuming import journal

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


class Killed:
    """`python -m jaxft.train` by one config file."""

    def __init__(self, config: Any, path: Path) -> None:
        self.path = path
        path.write_text(cli.dump(config))

    def start(self) -> subprocess.Popen:
        with open(self.path.with_suffix(".log"), "a") as log:
            argv = [sys.executable, "-m", "jaxft.train", str(self.path)]
            return subprocess.Popen(argv, env={**os.environ, "JAX_PLATFORMS": "cpu"}, stdout=log, stderr=log)

    def finish(self) -> float:
        """Run to the end; returns the seconds."""
        begin = time.monotonic()
        assert self.start().wait() == 0, self.path.with_suffix(".log").read_text()
        return time.monotonic() - begin

    def kill_after(self, seconds: float) -> bool:
        """Whether the run still ran after so many seconds, and was killed."""
        process = self.start()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        assert process.returncode == 0, self.path.with_suffix(".log").read_text()
        return False


def weights_of(directory: Path) -> dict[str, bytes]:
    """The files of weights of all models in a run's directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*.safetensors")}


@pytest.mark.exhaustive
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_bits(name, tiny_model, tiny_data, tmp_path):
    make = partial(RUNS[name], tiny_model, tiny_data, tmp_path)
    whole = Killed(make(tmp_path / "whole"), tmp_path / "whole.yaml")
    whole.finish()
    weights = weights_of(tmp_path / "whole")
    assert weights
    shutil.rmtree(tmp_path / "again", ignore_errors=True)
    seconds = Killed(make(tmp_path / "again"), tmp_path / "again.yaml").finish()  # with the compiled programs
    rng = random.Random(name)
    killed = 0
    for number in range(ROUNDS):
        output = tmp_path / f"killed-{number}"
        run = Killed(make(output), output.with_suffix(".yaml"))
        for _ in range(KILLS):
            killed += run.kill_after(rng.uniform(0.05, 1) * seconds)
        run.finish()
        assert weights_of(output) == weights, number
        assert journal(output) == journal(tmp_path / "whole"), number
        shutil.rmtree(output)
    assert killed >= ROUNDS * KILLS / 2, "most runs had ended before they could be killed"
