"""A run on several processes, which goes on with another number of them, uses each example once per epoch."""

from pathlib import Path

import pytest

from jaxft.config import cli
from tests.support import read_jsonl
from tests.support.resuming import copy_run_at, short_config

# A callback whose module writes the examples of every training batch that a process builds into a file of its own.
RECORDS = """
import json, os
import jax, jaxft
from jaxft.data.batching.batch_sampler import EpochBatches

build = EpochBatches.batch

def recorded(self, examples, step, rows=None):
    made = build(self, examples, step, rows)
    used = made["example"][made["example"] >= 0].tolist()
    with open(f"{os.environ['USED']}-{jax.process_index()}", "a") as file:
        file.write(json.dumps([step, used]) + "\\n")
    return made

EpochBatches.batch = recorded

class Records(jaxft.Callback):
    pass
"""


def used_examples(path: Path, processes: int, first: int) -> list[list[int]]:
    """The examples of each step from `first` on, of all processes together."""
    each = [read_jsonl(path.with_name(f"{path.name}-{number}")) for number in range(processes)]
    assert {len(steps) for steps in each} == {14 - first}
    found = []
    for number, parts in enumerate(zip(*each, strict=True), first):
        assert {step for step, _ in parts} == {number % 7}
        found.append(sorted(example for _, part in parts for example in part))
    return found


def losses(directory: Path) -> dict[int, float]:
    """The loss of each step."""
    return {row["step"]: row["loss"] for row in read_jsonl(directory / "metrics.jsonl") if "loss" in row}


@pytest.mark.slow
def test_a_run_that_goes_on_with_other_processes_uses_the_same_examples(finish, tiny_model, tiny_data, tmp_path):
    """Two epochs of 7 steps with packing and micro-batches: on 1 process, and on 2 x 2 devices, then 3, then 4, then 1."""
    (tmp_path / "records.py").write_text(RECORDS)
    sections = {"train": {"epochs": 2, "batch_size": 16, "micro_batches": 2, "callbacks": ["records:Records"]}}
    sections |= {"mesh": {"data": -1}, "runtime": {"distributed": "auto"}}

    def run(name: str, processes: int, first: int = 0, devices: int = 1) -> list[list[int]]:
        config = short_config(tiny_model, tiny_data, tmp_path / name, **sections)
        (tmp_path / "config.yaml").write_text(cli.dump(config))
        used = {"USED": str(tmp_path / f"used-{name}")}
        command = ["-m", "jaxft.train", str(tmp_path / "config.yaml")]
        finish(*command, count=processes, devices=devices, variables=[used] * processes)
        return used_examples(tmp_path / f"used-{name}", processes, first)

    whole = run("whole", 1)
    for epoch in (whole[:7], whole[7:]):
        assert sorted(example for step in epoch for example in step) == list(range(100))
    assert run("first", 2, devices=2) == whole
    before = "first"
    for processes, first in ((3, 3), (4, 6), (1, 9)):
        name = f"from-{first}"
        copy_run_at(first, tmp_path / before, tmp_path / name)
        assert run(name, processes, first) == whole[first:]
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
        before = name
