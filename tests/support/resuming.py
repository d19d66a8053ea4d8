"""Runs that are resumed from an earlier checkpoint, and comparisons with the uninterrupted run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jaxft.config import cli
from jaxft.train import train
from tests.support import read_jsonl, tiny

SPEED = {"examples_per_second", "tokens_per_second", "share_data", "share_dispatch", "share_device"}
SPEED |= {f"distill/{name}_examples_per_second" for name in ("teacher", "student")}
SPEED |= {"slowest_process", "slowest_own_seconds", "median_own_seconds"}
TIMES = {"time", "goodput"}


MODEL = "model/model.safetensors"


def journal(directory: Path) -> list[dict]:
    """The rows of metrics.jsonl without the columns that depend on the clock."""
    path = directory / "metrics.jsonl"
    rows = read_jsonl(path) if path.exists() else []
    return [{k: v for k, v in row.items() if k not in SPEED | TIMES} for row in rows]


def assert_journals_close(found: list[dict], expected: list[dict], rel: float) -> None:
    """Two journals have the same rows, and numbers that agree within `rel`."""
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            assert one[key] == (value if isinstance(value, list | dict | None) else pytest.approx(value, rel=rel)), key


def short_config(model: Path, data: Path, output: Path, /, **sections):
    """A run of one epoch of 7 steps that keeps its checkpoints of steps 3, 6 and 7."""
    sections = {
        "model": {"path": str(model), **tiny.NO_DROPOUT},
        "data": {"validation": None},
        "train": {"epochs": 1, "batch_size": 16},
        "checkpoint": {"every": 3, "keep": 9},
        "log": {"every": 1, "progress": False},
        **sections,
    }
    return tiny.run_config(model, data, output, **sections)


def copy_run_at(step: int, finished: Path, copy: Path) -> None:
    """Copy a finished run as it was right after the checkpoint of a step."""
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "model")
    for path in (copy / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > step:
            shutil.rmtree(path)


def wait_for_rows(path: Path, processes: Sequence[subprocess.Popen]) -> None:
    """Wait until the journal of a run has a row, while all its processes are alive."""
    while not (path.exists() and path.read_text()):
        assert {process.poll() for process in processes} == {None}
        time.sleep(0.05)


class Command:
    """`python -m jaxft.train` with one config in one directory."""

    def __init__(self, config: Any, folder: Path) -> None:
        self.directory = Path(config.output_dir)
        self.argv = [sys.executable, "-m", "jaxft.train", str(folder / f"{self.directory.name}.yaml")]
        Path(self.argv[-1]).write_text(cli.dump(config))
        self.log = folder / f"{self.directory.name}.log"

    def start(self) -> subprocess.Popen:
        """Start it; what it says is appended to its log."""
        with open(self.log, "a") as log:
            return subprocess.Popen(self.argv, env={**os.environ, "JAX_PLATFORMS": "cpu"}, stdout=log, stderr=log)

    def finish(self) -> None:
        """Run it to the end."""
        assert self.start().wait() == 0, self.log.read_text()

    def kill_when(self, happens: Callable[[], bool]) -> bool:
        """Kill the run as soon as `happens()`; returns whether it happened before the run ended."""
        process = self.start()
        while process.poll() is None:
            if happens():
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.0005)
        assert process.returncode == 0, self.log.read_text()
        return False


def kill_repeatedly(config, steps: Sequence[int]) -> None:
    """Start a run as a command again and again, and kill it each time its journal has so many steps."""
    directory = Path(config.output_dir)
    path, rows = directory.with_suffix(".yaml"), directory / "metrics.jsonl"
    path.write_text(cli.dump(config))
    for count in steps:
        argv = [sys.executable, "-m", "jaxft.train", str(path)]
        process = subprocess.Popen(argv, env={**os.environ, "JAX_PLATFORMS": "cpu"})
        while process.poll() is None and (not rows.exists() or rows.read_text().count('"learning_rate"') < count):
            time.sleep(0.001)
        assert process.poll() is None, "the run has ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()


def assert_resume_is_exact(model: Path, data: Path, folder: Path, weights: str, /, **sections) -> None:
    """A run in folder/whole and one in folder/half that resumes at step 3 end with the same weights and journals."""
    whole, half = (short_config(model, data, folder / name, **sections) for name in ("whole", "half"))
    train(whole)
    copy_run_at(3, folder / "whole", folder / "half")
    train(half)
    assert (folder / "half" / weights).read_bytes() == (folder / "whole" / weights).read_bytes()
    assert journal(folder / "half") == journal(folder / "whole")


def assert_resumes_to_same_model(config, keep: int) -> dict:
    """Resume a finished run that has lost its model and all but the first `keep` checkpoints; returns its results.

    A negative `keep` is a number of last checkpoints that are lost.
    """
    directory = Path(config.output_dir)
    weights = (directory / "model/model.safetensors").read_bytes()
    settings = (directory / "model/config.json").read_text()
    steps = sorted((int(p.name), p) for p in (directory / "checkpoints").iterdir() if p.name.isdigit())
    assert 0 < len(steps[keep:]) < len(steps)
    for _, path in steps[keep:]:
        shutil.rmtree(path)
    shutil.rmtree(directory / "model")
    results = train(config)
    assert (directory / "model/model.safetensors").read_bytes() == weights
    assert (directory / "model/config.json").read_text() == settings
    return results
