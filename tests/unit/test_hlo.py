"""Figures of compiled programs: collectives, products, traffic and arrays, in real programs and in TPU and GPU text."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxft.config import MeshConfig
from jaxft.parallel import sharding
from jaxft.preflight import hlo


def compiled(function, *arguments) -> str:
    return jax.jit(function).lower(*arguments).compile().as_text()


def test_collectives_in_a_loop_count_once_per_iteration():
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


def test_collectives_of_a_mesh_of_two_axes_are_told_apart():
    """Groups are devices of the mesh; kinds are summed over groups only by `by_kind`."""
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=4))
    x = jax.device_put(jnp.ones((2, 4, 16)), NamedSharding(mesh, P("data", "fsdp")))

    def sums(x):
        return jnp.sin(x).sum(0), jnp.cos(x).sum(1)

    out = NamedSharding(mesh, P("fsdp")), NamedSharding(mesh, P("data"))
    found = hlo.collectives(jax.jit(sums, out_shardings=out).lower(x).compile().as_text())
    assert found == [hlo.Collective("all-reduce", 1, 16 * 4, group) for group in ((0, 1, 2, 3), (0, 4))]
    assert hlo.by_kind(found) == {"all-reduce": hlo.Collective("all-reduce", 2, 2 * 16 * 4)}


def test_collectives_of_a_program_for_tpus():
    """As libtpu prints them: an asynchronous all-gather, a reduce-scatter, and a collective-permute in a loop whose counter
    grows by two."""
    program = """HloModule m, num_partitions=4

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
    scores = partial(hlo.materialized_arrays, wanted=lambda kind, shape: kind == "f32" and shape == (64, 64))
    assert scores(compiled(lambda x: (jnp.sin(x.T @ x).sum(), x.T @ x), x)) == ["f32[64,64]"]
    assert scores(compiled(lambda x: (jnp.sin(x)[:, :, None] * jnp.cos(x)[:, None, :]).sum((1, 2)), x)) == []


def test_traffic_is_what_is_read_and_written():
    x, w, steps = (jnp.ones(shape) for shape in ((256, 256), (5, 256, 256), (5, 256)))
    size = x.nbytes
    assert hlo.bytes_accessed(compiled(lambda x: jnp.sin(x) + jnp.cos(x), x)) == 2 * size  # one fusion
    assert hlo.bytes_accessed(compiled(jnp.dot, x, x)) == 3 * size
    # An iteration reads its own kernel of the stack alone, and reads and writes x. Small arrays are ignored here.
    looped = hlo.bytes_accessed(compiled(lambda x, w: jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0], x, w))
    assert 5 * 4 * size <= looped <= 5 * 8 * size
    # An iteration writes its own part of the stack: one row of five.
    written = hlo.bytes_accessed(compiled(lambda s: jax.lax.scan(lambda c, r: (c, r + 1), 0, s)[1], steps))
    assert 2 * steps.nbytes <= written <= 5 * steps.nbytes
    # Access to the memory beside the processor (S(1), on TPUs) is no traffic.
    near = compiled(jnp.dot, x, x).replace("f32[256,256]{1,0} parameter(0)", "f32[256,256]{1,0:S(1)} parameter(0)")
    assert hlo.bytes_accessed(near) == 2 * size  # one operand and the result


def test_traffic_of_a_program_for_tpus():
    """As libtpu prints them: asynchronous copies, buffers that are only allocated, and nested fusions."""
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
    assert hlo.bytes_accessed(program) == fusion + slice_in + copy_out


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
    assert hlo.matmul_flops(program.as_text()) == expected


def test_products_in_a_loop_count_once_per_iteration():
    x, w = jnp.ones((256, 256)), jnp.ones((5, 256, 256))
    looped = compiled(lambda x, w: jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0], x, w)
    assert hlo.matmul_flops(looped) == 5 * 2 * 256**3


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
    assert hlo.matmul_flops(program) == 2 * 4 * 12 * 128 * 128 * 64 + 2 * 16 * 32 * 8
