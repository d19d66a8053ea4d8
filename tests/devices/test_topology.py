"""Programs for devices that this machine lacks: predictions from their costs, and a real TPU program."""

import importlib.util
import itertools
import json
import subprocess
import sys
from dataclasses import replace

import jax
import pytest

from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.preflight import costs, hlo, topology
from jaxft.run.setup import make_run
from jaxft.step.compilation import compile_lowered
from tests.support import ROOT, tiny, tpu


def run_and_cost(model, data, folder, count):
    """A data-parallel run on `count` devices, and the cost of its step."""
    sections = {"mesh": {"data": count}, "data": {"layout": "pad"}, "train": {"batch_size": 16}}
    run = make_run(tiny.run_config(model, data, folder / "run", **sections))
    [[cost]] = costs.step_costs(run).values()
    return run, cost


@pytest.fixture(scope="module")
def one(tiny_model, tiny_data, tmp_path_factory):
    return run_and_cost(tiny_model, tiny_data, tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def eight(tiny_model, tiny_data, tmp_path_factory):
    return run_and_cost(tiny_model, tiny_data, tmp_path_factory.mktemp("eight"), 8)


@pytest.mark.slow
def test_gradients_are_reduced_once(one, eight):
    """On 8 devices every gradient is exchanged once, in float32, together with a few numbers."""
    run, cost = eight
    gradients = 4 * sum(x.size for x in jax.tree.leaves(run.params))
    [reduced] = cost.collectives
    assert reduced.kind == "all-reduce"
    assert gradients <= reduced.size <= gradients + 1024
    assert one[1].collectives == []


def test_micro_batches_are_all_counted(tiny_model, tiny_data, tmp_path, one):
    """A loop over four micro-batches has the FLOPs of one batch and the traffic of all four."""
    train, data = {"batch_size": 16, "micro_batches": 4}, {"layout": "pad"}
    run = make_run(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", data=data, train=train))
    [[cost]] = costs.step_costs(run).values()
    whole = one[1]
    assert cost.flops == whole.flops
    assert cost.forward == whole.forward
    assert whole.accessed < cost.accessed < 4 * whole.accessed


@pytest.mark.parametrize("devices", ["one", pytest.param("eight", marks=pytest.mark.slow)])
def test_state_is_donated(devices, request):
    """Parameters and moments are updated in place."""
    _, cost = request.getfixturevalue(devices)
    held = cost.expected["parameters"] + cost.expected["optimizer"]
    assert held <= cost.donated <= held + 1024


@pytest.mark.parametrize(
    "plan",
    [pytest.param({}, marks=pytest.mark.slow, id="one loop"), pytest.param({"preset": "last_n", "n": 1}, id="two loops")],
)
def test_flops_of_loops_over_layers_count_once_per_layer(tiny_data, tmp_path, plan):
    model = tiny.write_model(tmp_path / "model", num_hidden_layers=4)
    found = []
    for unroll in (1, 4):
        sections = {"model": tiny.NO_DROPOUT, "plan": plan, "runtime": {"unroll": unroll}, "data": {"layout": "pad"}}
        [[cost]] = costs.step_costs(make_run(tiny.run_config(model, tiny_data, tmp_path / "run", **sections))).values()
        found.append(cost)
    looped, plain = found
    assert looped.flops == plain.flops
    assert looped.forward == plain.forward


def test_the_predicted_time_is_that_of_the_slowest_resource():
    chip = topology.Chip(flops=100e12, memory=10e9, bandwidth=1e12, links=1e11)
    step = {"start": 0, "forward": 0.0, "expected": {"gradients": 10**9}, "donated": 0, "text": ""}
    reduced = [hlo.Collective("all-reduce", 3, 10**9)]
    cost = costs.Cost(**step, flops=2e12, arguments=3 * 10**9, temporary=2 * 10**9, accessed=5e9, collectives=reduced)
    guess = topology.predict_step(cost, chip, chips=8, rows=32)
    assert (guess.bound, guess.seconds, guess.share, guess.rows) == ("operations", 0.02, 1.0, 112)
    slow = replace(cost, accessed=80e9)
    guess = topology.predict_step(slow, chip, chips=8, rows=32)
    assert (guess.bound, guess.seconds, guess.share) == ("memory", 0.08, 0.25)
    for kind, sent in {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1}.items():
        talking = replace(cost, collectives=[hlo.Collective(kind, 1, 4 * 10**9)])
        guess = topology.predict_step(talking, chip, chips=8, rows=32)
        assert (guess.bound, guess.seconds) == ("links", pytest.approx(sent * 0.04 * 7 / 8))
    # 16 GPUs on two hosts: each of the eight of a host sends an eighth of what the host sends.
    inside = replace(cost, collectives=[hlo.Collective("all-gather", 1, 4 * 10**9, tuple(range(8)))])
    between = replace(cost, collectives=[hlo.Collective("all-reduce", 1, 4 * 10**9, (0, 8))])
    both = replace(cost, collectives=[hlo.Collective("all-reduce", 1, 4 * 10**9)])
    gpu = replace(chip, network=1e10)
    for step, times in [
        (inside, {"links": 0.04 * 7 / 8}),
        (between, {"links": 0, "network": 2 * 0.4 / 2}),
        (both, {"links": 2 * 0.04 * 7 / 8, "network": 2 * 0.4 / 8 / 2}),
    ]:
        found = topology.predict_step(step, gpu, chips=16, rows=32).times
        assert {name: found[name] for name in found if name not in ("operations", "memory")} == pytest.approx(times)
    full = replace(cost, flops=1.0, arguments=10**10, accessed=1.0, collectives=[])
    assert topology.predict_step(full, chip, chips=8, rows=32).rows == 0
    [_, line] = topology.lines("v5e:2x4", [(costs_shape(), full)])
    assert "11.18 of 15.75 GiB per chip (fits" in line
    assert "collectives: none" in line


def costs_shape():
    from jaxft.data.batching.batch_sampler import Shape

    return Shape(rows=32, length=128, slots=4)


@pytest.mark.parametrize("name", ["v5e", "v5e:8", "v5litepod:2x4", "v5e:0x2", "h200:1x1", "h200", "h200:0", ""])
def test_an_unknown_topology_is_refused(name):
    message = r"give v4, v5e, v5p, v6e and a shape \(v5e:2x4\), or h100, h200 and a number \(h200:8\)"
    with pytest.raises(UserError, match=message):
        topology.parse(name)


def test_topologies_have_chips_and_a_count():
    assert topology.parse("v5p:2x2x1") == (topology.CHIPS["v5p"], 4)
    assert topology.parse("h200:8") == (topology.CHIPS["h200"], 8)


def test_hosts_of_gpus_are_whole(monkeypatch):
    monkeypatch.setattr(topology, "missing_compiler", lambda name: None)
    with pytest.raises(UserError, match=r"h200:12: hosts have 8 GPUs: give a multiple of 8, or fewer"):
        topology.devices("h200:12")


def test_a_missing_compiler_package_is_named(monkeypatch):
    monkeypatch.setattr(topology, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"v5e:2x4 needs the package libtpu"):
        topology.devices("v5e:2x4")
    with pytest.raises(UserError, match=r"h200:1 needs JAX's CUDA packages \(pip install 'jaxft\[cuda\]'\)"):
        topology.devices("h200:1")


def planned(tiny_model, tiny_data, tmp_path, name, **sections):
    """`jaxft.plan --topology` in a process of its own."""
    if name.startswith("v5e") and tpu.MISSING:
        pytest.skip("libtpu is not installed")
    if name.startswith("h200") and importlib.util.find_spec("jax_cuda13_plugin") is None:
        pytest.skip("jax_cuda13_plugin is not installed")
    sections = {"mesh": {"data": -1}} | sections  # all chips, not the one of other tests
    config = tiny.run_config(tiny_model, tiny_data, tmp_path / "run", **sections)
    (tmp_path / "config.yaml").write_text(cli.dump(config))
    command = [sys.executable, "-m", "jaxft.plan", str(tmp_path / "config.yaml"), "--topology", name]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=tpu.environment())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "says"), [("v5e:2x2", "predicted for 4 x v5e"), ("h200:2", "predicted for 2 x h200")])
def test_plan_compiles_for_chips_that_this_machine_lacks(tiny_model, tiny_data, tmp_path, name, says):
    done = planned(tiny_model, tiny_data, tmp_path, name, train={"dtype": "bfloat16"})
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    assert "all-reduce of" in done.stdout
    assert not (tmp_path / "run").exists()


COUNTS = """
import json, sys
from jaxft.preflight import topology
print(json.dumps([len(topology.devices(name)) for name in json.loads(sys.argv[1])]))
"""


@pytest.mark.slow
@pytest.mark.skipif(tpu.MISSING, reason="libtpu is not installed")
def test_a_chip_of_each_generation_is_one_device():
    """Also a v4, which has two cores."""
    names = ["v4:2x2x1", "v4:2x2x4", "v5p:2x2x2", "v5e:4x4", "v6e:2x4"]
    command = [sys.executable, "-c", COUNTS, json.dumps(names)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=tpu.environment())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [topology.parse(name)[1] for name in names]


PODS = """
import json, sys
import jax
from jax.sharding import NamedSharding
from jaxft.config import MeshConfig
from jaxft.parallel import sharding
from jaxft.preflight import topology
from jaxft.data.batching.prefetch import local_rows

class OfProcess:
    def __init__(self, whole, process):
        self.whole, self.process = whole, process
    def addressable_devices_indices_map(self, shape):
        return {d: x for d, x in self.whole.devices_indices_map(shape).items() if d.process_index == self.process}

def rows_of_processes(name, fsdp):
    whole = sharding.batch_sharding(sharding.make_mesh(MeshConfig(fsdp=fsdp), topology.devices(name)))
    processes = sorted({d.process_index for d in whole.device_set})
    return [local_rows(OfProcess(whole, process), 2 * len(whole.device_set)).tolist() for process in processes]

jax.config.update("jax_platforms", "cpu")
print(json.dumps([rows_of_processes(*case) for case in json.loads(sys.argv[1])]))
"""


@pytest.mark.slow
@pytest.mark.skipif(tpu.MISSING, reason="libtpu is not installed")
def test_the_hosts_of_a_pod_share_the_rows():
    """The mesh follows the links between chips, so the rows of a host are not neighbours; fsdp may divide an axis."""
    cases = [("v5e:4x4", 1), ("v5e:4x4", 4), ("v6e:8x8", 4)]
    command = [sys.executable, "-c", PODS, json.dumps(cases)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=tpu.environment())
    assert done.returncode == 0, done.stderr
    for (name, _), hosts in zip(cases, json.loads(done.stdout.splitlines()[-1]), strict=True):
        chips = topology.parse(name)[1]
        assert {len(rows) for rows in hosts} == {2 * chips // len(hosts)}
        assert sorted(itertools.chain(*hosts)) == list(range(2 * chips))
        assert any(rows != list(range(rows[0], rows[-1] + 1)) for rows in hosts)


def test_a_program_that_does_not_fit_is_an_error():
    class Program:
        def compile(self):
            raise jax.errors.JaxRuntimeError(self.says)

    program = Program()
    program.says = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, 33.5G exceeds available HBM (15.75G).\nAllocations:\n..."
    with pytest.raises(UserError, match=r"^the train step 8 x 128 does not fit the device: Ran .*\(15\.75G\)\. Fewer rows"):
        compile_lowered(program, "train step 8 x 128")
    program.says = "INTERNAL: another"
    with pytest.raises(jax.errors.JaxRuntimeError, match="another"):
        compile_lowered(program, "train step 8 x 128")
