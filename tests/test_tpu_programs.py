"""The real train step compiled for TPUs, which needs the package libtpu and no TPU: what must never come back into it.

A layer as wide as BERT base on four chips of v5e, in bfloat16, with dropout. `benchmarks.aot` compiles whole models.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks import aot, synthetic
from jaxft import costs, hlo, runtime, topology

ROOT = Path(__file__).resolve().parents[1]
# `make test` puts libtpu here, not among the packages: a JAX that finds it there looks for a TPU before it takes the CPU.
BESIDE = Path(sys.prefix) / "libtpu"
CASES = {
    "rows of 128": aot.Case("v5e:2x2", "a layer", 4 * 32, 128),
    "rows of 512": aot.Case("v5e:2x2", "a layer", 4 * 8, 512, keys=True),
}
# MiB of a chip that a step may need beside its arguments: 2 % more than it needed when this was written.
TEMPORARY = {"rows of 128": 203, "rows of 512": 273}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BESIDE.is_dir() and importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"),
]


def program(name: str) -> dict[str, Any]:
    """What is asserted of a case's train step."""
    case = CASES[name]
    synthetic.SIZES[case.size] = synthetic.Size(layers=1, hidden=768, heads=12)
    lengths = np.full(2 * case.batch, case.length)
    run = synthetic.run_of(case.size, lengths, case.config(), topology.devices(case.topology), abstract=True)
    [[cost]] = costs.step_costs(run).values()
    wide = {12, case.length}
    return {
        "state": cost.expected["parameters"] + cost.expected["optimizer"],
        "donated": cost.donated,
        "gradients": 4 * sum(x.size for x in jax.tree.leaves(run.params)),
        "reduced": {x.kind: x.size for x in cost.collectives},
        "temporary": cost.temporary,
        "scores": hlo.arrays(cost.text, lambda kind, s: kind == "f32" and wide <= set(s) and s.count(case.length) == 2),
    }


@pytest.fixture(scope="module", params=CASES)
def compiled(request) -> dict[str, Any]:
    """`program` of a case, in a process of its own."""
    path = os.pathsep.join([str(BESIDE), os.environ.get("PYTHONPATH", "")])
    options = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
    command = [sys.executable, "-m", "tests.test_tpu_programs", request.param]
    done = subprocess.run(command, env=options, cwd=ROOT, check=True, capture_output=True, text=True)
    return {"name": request.param, **json.loads(done.stdout.splitlines()[-1])}


def test_state_is_donated(compiled):
    assert compiled["donated"] >= compiled["state"]


def test_gradients_are_reduced_once(compiled):
    assert list(compiled["reduced"]) == ["all-reduce"]
    assert compiled["reduced"]["all-reduce"] == pytest.approx(compiled["gradients"], rel=0.001)


def test_no_scores_in_float32(compiled):
    assert compiled["scores"] == []


def test_memory(compiled):
    assert compiled["temporary"] <= TEMPORARY[compiled["name"]] * 2**20


if __name__ == "__main__":
    runtime.start(distributed="off", platforms="cpu")
    print(json.dumps(program(sys.argv[1])))
