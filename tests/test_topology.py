"""Programs for devices that are not here: what the HLO says, what is predicted of it, and a real TPU program."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxft import cli, costs, hlo, sharding, topology
from jaxft.compiled import finished
from jaxft.config import MeshConfig
from jaxft.errors import UserError
from jaxft.setup import make_run
from tests import tiny, tpu

ROOT = Path(__file__).resolve().parents[1]


def compiled(function, *arguments) -> str:
    return jax.jit(function).lower(*arguments).compile().as_text()


def test_collectives_in_a_loop_are_counted_as_often_as_it_turns():
    mesh = sharding.make_mesh(MeshConfig(data=8))
    x = jax.device_put(jnp.ones((8, 16)), NamedSharding(mesh, P("data")))

    def once(y, _):
        return jax.lax.with_sharding_constraint(y * jnp.sin(y).sum(0, keepdims=True), NamedSharding(mesh, P("data"))), None

    found = hlo.collectives(compiled(lambda x: jax.lax.scan(once, x, None, length=5)[0], x))
    assert found == [hlo.Collective("all-reduce", 5, 5 * 16 * 4)]
    assert hlo.collectives(compiled(lambda x: once(x, None)[0], x)) == [hlo.Collective("all-reduce", 1, 16 * 4)]
    gathered = jax.jit(lambda x: x + 1, out_shardings=NamedSharding(mesh, P())).lower(x).compile().as_text()
    assert hlo.collectives(gathered) == [hlo.Collective("all-gather", 1, 8 * 16 * 4)]
    assert hlo.collectives(compiled(lambda x: x + 1, x)) == []


def test_collectives_of_a_program_for_tpus():
    """As libtpu prints them: a gathering that goes on beside other work, a sum of which each chip keeps its part, and sums
    sent on from chip to chip in a loop of two steps a turn."""
    program = """HloModule m

%begin (p: bf16[8,16]) -> (bf16[8,16], bf16[8,64], u32[]) {
  %p = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)
  %gather.1 = bf16[8,64]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=8, dimensions={1}
  ROOT %begun = (bf16[8,16]{1,0}, bf16[8,64]{1,0}, u32[]{:S(2)}) custom-call(%gather.1), custom_call_target="Start"
}

%end (q: bf16[8,16], r: bf16[8,64], s: u32[]) -> bf16[8,64] {
  %q = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)
  %r = bf16[8,64]{1,0:T(8,128)(2,1)} parameter(1)
  %s = u32[]{:S(2)} parameter(2)
  %gather.2 = bf16[8,64]{1,0:T(8,128)(2,1)} all-gather(%q), channel_id=8, dimensions={1}
  ROOT %ended = bf16[8,64]{1,0} custom-call(%gather.2, %r, %s), custom_call_target="Done"
}

%all-reduce-scatter.1 (g: f32[64,32]) -> f32[64,8] {
  %g = f32[64,32]{1,0:T(8,128)} parameter(0)
  %sum = f32[64,32]{1,0:T(8,128)} all-reduce(%g), channel_id=8, replica_groups={{0,1,2,3}}, to_apply=%add.1
  %zero = u32[] constant(0)
  %me = u32[] partition-id()
  ROOT %part = f32[64,8]{1,0:T(8,128)} dynamic-slice(%sum, %zero, %me), dynamic_slice_sizes={64,8}
}

%add.1 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %ab = f32[] add(%a, %b)
}

%more (c: (f32[64,8], u32[])) -> pred[] {
  %c = (f32[64,8]{1,0}, u32[]{:T(128)}) parameter(0)
  %turn = u32[]{:T(128)} get-tuple-element(%c), index=1
  %last = u32[]{:T(128)} constant(4)
  ROOT %less = pred[]{:T(512)} compare(%turn, %last), direction=LT
}

%next (d: (f32[64,8], u32[])) -> (f32[64,8], u32[]) {
  %d = (f32[64,8]{1,0}, u32[]{:T(128)}) parameter(0)
  %own = f32[64,8]{1,0} get-tuple-element(%d), index=0
  %turn.1 = u32[]{:T(128)} get-tuple-element(%d), index=1
  %two = u32[]{:T(128)} constant(2)
  %turn.2 = u32[]{:T(128)} add(%turn.1, %two)
  %send = (f32[64,8]{1,0}, f32[64,8]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%own), channel_id=9
  %sent = f32[64,8]{1,0} collective-permute-done(%send)
  ROOT %after = (f32[64,8]{1,0}, u32[]{:T(128)}) tuple(%sent, %turn.2)
}

ENTRY %main (k: bf16[8,16], l: f32[64,32], m: (f32[64,8], u32[])) -> (bf16[8,64], f32[64,8]) {
  %k = bf16[8,16]{1,0} parameter(0)
  %l = f32[64,32]{1,0} parameter(1)
  %m = (f32[64,8]{1,0}, u32[]{:T(128)}) parameter(2)
  %start = (bf16[8,16]{1,0}, bf16[8,64]{1,0}, u32[]{:S(2)}) fusion(%k), kind=kCustom, calls=%begin
  %n = bf16[8,16]{1,0} get-tuple-element(%start), index=0
  %o = bf16[8,64]{1,0} get-tuple-element(%start), index=1
  %p.1 = u32[]{:S(2)} get-tuple-element(%start), index=2
  %done = bf16[8,64]{1,0} fusion(%n, %o, %p.1), kind=kCustom, calls=%end
  %kept = f32[64,8]{1,0} fusion(%l), kind=kCustom, calls=%all-reduce-scatter.1
  %loop = (f32[64,8]{1,0}, u32[]{:T(128)}) while(%m), condition=%more, body=%next
  ROOT %both = (bf16[8,64]{1,0}, f32[64,8]{1,0}) tuple(%done, %kept)
}
"""
    assert hlo.collectives(program) == [
        hlo.Collective("all-gather", 1, 8 * 64 * 2),
        hlo.Collective("reduce-scatter", 1, 64 * 32 * 4),
        hlo.Collective("collective-permute", 2, 2 * 64 * 8 * 4),
    ]


def test_arrays_inside_a_fusion_are_not_in_memory():
    x = jnp.ones((4, 64))
    scores = partial(hlo.arrays, wanted=lambda kind, shape: kind == "f32" and shape == (64, 64))
    assert scores(compiled(lambda x: (jnp.sin(x.T @ x).sum(), x.T @ x), x)) == ["f32[64,64]"]
    assert scores(compiled(lambda x: (jnp.sin(x)[:, :, None] * jnp.cos(x)[:, None, :]).sum((1, 2)), x)) == []


def test_traffic_is_what_is_read_and_written():
    x, w, steps = (jnp.ones(shape) for shape in ((256, 256), (5, 256, 256), (5, 256)))
    size = x.nbytes
    assert hlo.traffic(compiled(lambda x: jnp.sin(x) + jnp.cos(x), x)) == 2 * size  # one fusion
    assert hlo.traffic(compiled(jnp.dot, x, x)) == 3 * size
    # Of a stack of kernels a turn of a loop reads its own alone; x goes in and out. What is small is not counted here.
    looped = hlo.traffic(compiled(lambda x, w: jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0], x, w))
    assert 5 * 4 * size <= looped <= 5 * 8 * size
    # What a turn writes into a stack is its own part: a row, not the five of them.
    written = hlo.traffic(compiled(lambda s: jax.lax.scan(lambda c, r: (c, r + 1), 0, s)[1], steps))
    assert 2 * steps.nbytes <= written <= 5 * steps.nbytes
    # The memory beside the processor (S(1), as TPUs have it) is no traffic.
    near = compiled(jnp.dot, x, x).replace("f32[256,256]{1,0} parameter(0)", "f32[256,256]{1,0:S(1)} parameter(0)")
    assert hlo.traffic(near) == 2 * size  # one operand and the result


def test_traffic_of_a_program_for_tpus():
    """As libtpu prints them: copies that go on beside other work, memory that is only reserved, and fusions in fusions."""
    program = """HloModule m

%inner.1 (p: f32[4,8,128], i: s32[]) -> f32[8,128] {
  %p = f32[4,8,128]{2,1,0:T(8,128)} parameter(0)
  %i = s32[]{:T(128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %slice = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%p, %i, %zero, %zero), dynamic_slice_sizes={1,8,128}
  ROOT %row = f32[8,128]{1,0:T(8,128)} bitcast(%slice)
}

%out (q: f32[4,8,128], s: bf16[4,8,128], j: s32[]) -> (bf16[4,8,128], f32[8,128]) {
  %q = f32[4,8,128]{2,1,0:T(8,128)} parameter(0)
  %s = bf16[4,8,128]{2,1,0:T(8,128)(2,1)} parameter(1)
  %j = s32[]{:T(128)} parameter(2)
  %one = f32[8,128]{1,0:T(8,128)} fusion(%q, %j), kind=kLoop, calls=%inner.1
  %narrow = bf16[8,128]{1,0:T(8,128)(2,1)} convert(%one)
  %own = bf16[1,8,128]{2,1,0:T(8,128)(2,1)} bitcast(%narrow)
  %none = s32[]{:T(128)} constant(0)
  %put = bf16[4,8,128]{2,1,0:T(8,128)(2,1)} dynamic-update-slice(%s, %own, %j, %none, %none)
  ROOT %both = (bf16[4,8,128]{2,1,0:T(8,128)(2,1)}, f32[8,128]{1,0:T(8,128)S(1)}) tuple(%put, %one)
}

ENTRY %main.1 (a: f32[4,8,128], j: s32[]) -> bf16[4,8,128] {
  %a = f32[4,8,128]{2,1,0:T(8,128)} parameter(0)
  %j.1 = s32[]{:T(128)S(6)} parameter(1)
  %stack = bf16[4,8,128]{2,1,0:T(8,128)(2,1)} custom-call(), custom_call_target="AllocateBuffer"
  %two = (bf16[4,8,128]{2,1,0:T(8,128)(2,1)}, f32[8,128]{1,0:T(8,128)S(1)}) fusion(%a, %stack, %j.1), kind=kLoop, calls=%out
  %whole = bf16[4,8,128]{2,1,0:T(8,128)(2,1)} get-tuple-element(%two), index=0
  %begun = ((f32[4,8,128]{2,1,0:T(8,128)}), f32[2,8,128]{2,1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:2]}
  %part = f32[2,8,128]{2,1,0:T(8,128)S(1)} slice-done(%begun)
  %away = (f32[2,8,128]{2,1,0:T(8,128)}, f32[2,8,128]{2,1,0:T(8,128)S(1)}, u32[]{:S(2)}) copy-start(%part)
  %back = f32[2,8,128]{2,1,0:T(8,128)} copy-done(%away)
  ROOT %done = bf16[4,8,128]{2,1,0:T(8,128)(2,1)} bitcast(%whole)
}
"""
    row = 8 * 128
    fusion = 4 * row + 2 * row  # reads one float32 row, writes one bfloat16 row into the stack
    slice_in, copy_out = 2 * 4 * row, 2 * 4 * row  # two rows into near memory, and out of it
    assert hlo.traffic(program) == fusion + slice_in + copy_out


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (jnp.matmul, [(16, 24), (24, 40)]),
        (partial(jnp.einsum, "bqhd,bkhd->bhqk"), [(4, 16, 3, 8), (4, 24, 3, 8)]),
        (partial(jnp.einsum, "btd,bte->de"), [(4, 16, 24), (4, 16, 40)]),
        (partial(jax.lax.conv_general_dilated, window_strides=(2,), padding=[(1, 3)]), [(4, 6, 33), (10, 6, 5)]),
        (
            partial(
                jax.lax.conv_general_dilated,
                window_strides=(1, 2),
                padding=[(3, 0), (1, 2)],
                lhs_dilation=(3, 1),
                rhs_dilation=(1, 2),
                feature_group_count=2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            ),
            [(4, 9, 8, 6), (2, 3, 3, 10)],
        ),
        (jnp.add, [(16, 24), (16, 24)]),
    ],
    ids=["product", "scores", "gradient of a kernel", "convolution", "another convolution", "sum"],
)
def test_products_are_counted_as_xla_counts_them(function, shapes):
    program = jax.jit(function).lower(*(jnp.ones(shape) for shape in shapes)).compile()
    expected = program.cost_analysis()["flops"] if function is not jnp.add else 0
    assert hlo.product_flops(program.as_text()) == expected


def test_products_in_loops_and_fusions():
    x, w = jnp.ones((256, 256)), jnp.ones((5, 256, 256))
    looped = compiled(lambda x, w: jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0], x, w)
    assert hlo.product_flops(looped) == 5 * 2 * 256**3


def test_products_of_programs_for_tpus_and_gpus():
    """As their compilers print them: scores as a convolution with two batch axes, and a product left to cuBLAS."""
    program = """HloModule m

ENTRY %main (q: bf16[4,128,12,64], k: bf16[4,128,12,64], x: f32[16,32], w: f32[32,8]) -> bf16[4,12,128,128] {
  %q = bf16[4,128,12,64]{3,1,2,0:T(8,128)(2,1)} parameter(0)
  %k = bf16[4,128,12,64]{1,3,2,0:T(8,128)(2,1)} parameter(1)
  %x = f32[16,32]{1,0} parameter(2)
  %w = f32[32,8]{1,0} parameter(3)
  %gemm = (f32[16,8]{1,0}, s8[4194304]{0}) custom-call(%x, %w), GEMM
  ROOT %scores = bf16[4,12,128,128]{3,2,1,0:T(8,128)(2,1)} convolution(%q, %k), WINDOW
}
"""
    numbers = '"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}'
    gemm = f'custom_call_target="__cublas$gemm", backend_config={{"gemm_backend_config":{{{numbers}}}}}'
    program = program.replace("GEMM", gemm)
    program = program.replace("WINDOW", "window={size=4x12 stride=3x11 lhs_dilate=4x12}, dim_labels=0b1f_0o1i->01bf")
    assert hlo.product_flops(program) == 2 * 4 * 12 * 128 * 128 * 64 + 2 * 16 * 32 * 8


@pytest.fixture(scope="module")
def steps(tiny_model, tiny_data, tmp_path_factory):
    """Costs of a run's step on one device and on eight, data-parallel."""
    directory = tmp_path_factory.mktemp("run") / "run"
    found = {}
    for count in (1, 8):
        data = {"layout": "pad"}
        config = tiny.run_config(tiny_model, tiny_data, directory, mesh={"data": count}, data=data, train={"batch_size": 16})
        run = make_run(config)
        [[cost]] = costs.step_costs(run).values()
        found[count] = run, cost
    return found


def test_gradients_are_reduced_once(steps):
    """Over 8 devices every gradient goes over the wires once, in float32, with a few numbers beside it."""
    run, cost = steps[8]
    gradients = 4 * sum(x.size for x in jax.tree.leaves(run.params))
    [reduced] = cost.collectives
    assert reduced.kind == "all-reduce"
    assert gradients <= reduced.size <= gradients + 1024
    assert steps[1][1].collectives == []


def test_micro_batches_are_all_counted(tiny_model, tiny_data, tmp_path, steps):
    """A loop over four micro-batches computes what one batch does, and moves what all of them move."""
    train, data = {"batch_size": 16, "micro_batches": 4}, {"layout": "pad"}
    run = make_run(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", data=data, train=train))
    [[cost]] = costs.step_costs(run).values()
    whole = steps[1][1]
    assert cost.flops == whole.flops
    assert cost.forward == whole.forward
    assert whole.accessed < cost.accessed < 4 * whole.accessed


def test_state_is_donated(steps):
    """Parameters and moments are written over: a step takes no second copy of them."""
    for run, cost in steps.values():
        held = cost.expected["parameters"] + cost.expected["optimizer"]
        donated = cost.donated
        assert held <= donated <= held + 1024, run.mesh


@pytest.mark.parametrize("plan", [{}, {"preset": "last_n", "n": 1}], ids=["one loop", "two loops"])
def test_loops_over_layers_are_counted_as_often_as_they_turn(tiny_data, tmp_path, plan):
    model = tiny.write_model(tmp_path / "model", num_hidden_layers=4)
    found = []
    for unroll in (1, 4):
        sections = {"model": tiny.NO_DROPOUT, "plan": plan, "runtime": {"unroll": unroll}, "data": {"layout": "pad"}}
        [[cost]] = costs.step_costs(make_run(tiny.run_config(model, tiny_data, tmp_path / "run", **sections))).values()
        found.append(cost)
    looped, plain = found
    assert looped.flops == plain.flops
    assert looped.forward == plain.forward


def test_prediction():
    chip = topology.Chip(flops=100e12, memory=10e9, bandwidth=1e12, links=1e11)
    step = {"start": 0, "forward": 0.0, "expected": {"gradients": 10**9}, "donated": 0, "text": ""}
    reduced = [hlo.Collective("all-reduce", 3, 10**9)]
    cost = costs.Cost(**step, flops=2e12, arguments=3 * 10**9, temporary=2 * 10**9, accessed=5e9, collectives=reduced)
    guess = topology.predict(cost, chip, chips=8, rows=32)
    assert (guess.bound, guess.seconds, guess.share, guess.rows) == ("operations", 0.02, 1.0, 112)
    slow = replace(cost, accessed=80e9)
    guess = topology.predict(slow, chip, chips=8, rows=32)
    assert (guess.bound, guess.seconds, guess.share) == ("memory", 0.08, 0.25)
    for kind, sent in {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1}.items():
        talking = replace(cost, collectives=[hlo.Collective(kind, 1, 4 * 10**9)])
        guess = topology.predict(talking, chip, chips=8, rows=32)
        assert (guess.bound, guess.seconds) == ("links", pytest.approx(sent * 0.04 * 7 / 8))
    full = replace(cost, flops=1.0, arguments=10**10, accessed=1.0, collectives=[])
    assert topology.predict(full, chip, chips=8, rows=32).rows == 0
    [_, line] = topology.lines("v5e:2x4", [(costs_shape(), full)])
    assert "11.18 of 15.75 GiB a chip (fits" in line
    assert "collectives: none" in line


def costs_shape():
    from jaxft.data.batches import Shape

    return Shape(rows=32, length=128, slots=4)


@pytest.mark.parametrize("name", ["v5e", "v5e:8", "v5litepod:2x4", "v5e:0x2", "h200:1x1", "h200", "h200:0", ""])
def test_another_name_is_refused(name):
    message = r"give v4, v5e, v5p, v6e and a shape \(v5e:2x4\), or h100, h200 and a number \(h200:8\)"
    with pytest.raises(UserError, match=message):
        topology.parse(name)


def test_names():
    assert topology.parse("v5p:2x2x1") == (topology.CHIPS["v5p"], 4)
    assert topology.parse("h200:8") == (topology.CHIPS["h200"], 8)


def test_a_missing_compiler_is_named(monkeypatch):
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
def test_plan_compiles_for_chips_that_are_not_here(tiny_model, tiny_data, tmp_path, name, says):
    done = planned(tiny_model, tiny_data, tmp_path, name, train={"dtype": "bfloat16"})
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    assert "all-reduce of" in done.stdout
    assert not (tmp_path / "run").exists()


def test_a_program_that_does_not_fit_is_an_error():
    class Program:
        def compile(self):
            raise jax.errors.JaxRuntimeError(self.says)

    program = Program()
    program.says = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, 33.5G exceeds available HBM (15.75G).\nAllocations:\n..."
    with pytest.raises(UserError, match=r"^the train step 8 x 128 does not fit the device: Ran .*\(15\.75G\)\. Fewer rows"):
        finished(program, "train step 8 x 128")
    program.says = "INTERNAL: another"
    with pytest.raises(jax.errors.JaxRuntimeError, match="another"):
        finished(program, "train step 8 x 128")
