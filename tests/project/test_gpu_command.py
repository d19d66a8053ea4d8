"""`python -m benchmarks.gpu` on the CPU: with few packages, within its time, and with a row for what was skipped."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import record, step
from benchmarks.synthetic import glue_lengths
from jaxft.data.batching.batch_sampler import make_sampler
from tests.support import ROOT

# Packages that jaxft or its benchmarks use elsewhere, and that the command does not need.
HIDDEN = ["datasets", "pyarrow", "pandas", "accelerate", "peft", "sklearn", "seqeval", "tensorboardX", "matplotlib"]
BLOCK = f"""import sys
from importlib.machinery import PathFinder
class Others(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {HIDDEN} else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Others
"""


def run(output: Path, folder: Path, *options: str) -> list[record.Row]:
    """The rows of a run without these packages."""
    (folder / "sitecustomize.py").write_text(BLOCK)
    command = [sys.executable, "-m", "benchmarks.gpu", "--output", str(output), "--dtype", "float32", *options]
    environment = os.environ | {"PYTHONPATH": str(folder), "JAX_PLATFORMS": "cpu"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True, timeout=600)
    return record.read(output)["rows"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_everything_is_measured(tmp_path):
    options = ["--sizes", "tiny", "--sides", "jaxft", "torch", "--rounds", "2", "--first", "tiny", "--rest", "step none"]
    rows = run(tmp_path / "gpu.json", tmp_path, *options)
    loops = {row["side"]: row for row in rows if row["what"] == "loop"}
    assert loops["jaxft"]["examples_per_second"]["median"] > 0
    assert loops["jaxft"]["times_torch"]["median"] > 0
    assert loops["torch"]["times_torch"]["median"] == 1.0
    [skipped] = [row for row in rows if row["what"] == "step"]  # there is no such case
    assert skipped["size"] == "none"
    assert "exit status" in skipped["skipped"]
    [measured] = record.read(tmp_path / "gpu_steps.json")["rows"]
    assert measured["name"] == "tiny"
    assert all(row["device"] == "cpu" for row in [*rows, measured])


@pytest.mark.slow
def test_measurements_beyond_the_time_limit_are_reported(tmp_path):
    options = ["--sizes", "tiny", "--sides", "jaxft", "--first", "tiny", "--rest", "attention", "--seconds", "3"]
    rows = run(tmp_path / "gpu.json", tmp_path, *options)
    assert {(row["what"], row["skipped"]) for row in rows} == {
        ("step", "the time was over"),
        ("loop", "jaxft: the time was over"),
        ("attention", "the time was over"),
    }


def test_packed_rows_of_512_tokens_have_512():
    case = step.GPU["large-packed-512"]
    lengths = glue_lengths(20 * case.batch, case.length)
    options = {"batch_size": case.batch, "max_length": case.length, "layout": case.layout, "seed": 0}
    assert {shape.length for shape in make_sampler(lengths, **options).shapes} == {512}
    assert glue_lengths(1000).max() == 128
