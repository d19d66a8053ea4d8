"""The backward passes of attention and dense layers against plain differentiation, what they store, and their products."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.core import backend, random_keys
from jaxft.models.encoder.attention import attend
from jaxft.models.encoder.layers import LayerNorm
from jaxft.models.encoder.matmul import batched, dense

B, T, N, H = 3, 7, 2, 4
SEGMENTS = jnp.asarray([[1, 1, 1, 2, 2, 0, 0], [1] * 7, [0] * 7], jnp.int32)  # packed, full, empty
RNG = np.random.default_rng(0)
Q, K, V, G = (jnp.asarray(RNG.normal(size=(B, T, N, H)), jnp.float32) for _ in range(4))
CLOSE = {jnp.float32: 1e-6, jnp.bfloat16: 3e-2}
BIAS = {
    "none": None,
    "for all rows": jnp.asarray(RNG.normal(size=(1, N, T, T)), jnp.float32),
    "for each row": jnp.asarray(RNG.normal(size=(B, N, T, T)), jnp.float32),
}


def value_and_gradients(bias, probabilities: bool, **options):
    """Of a scalar objective; with `probabilities` attention uses the plain formula, which JAX differentiates."""

    def objective(q, k, v, bias):
        context, _ = attend(q, k, v, SEGMENTS, bias=bias, outputs=("attentions",) if probabilities else (), **options)
        return (context * G).sum()

    return jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2, 3)))(Q, K, V, bias)


@pytest.mark.parametrize("bias", BIAS)
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("window", [None, 2])
def test_the_backward_pass_is_plain_differentiation(bias, rate, window):
    options = {"rate": rate, "key": random_keys.root_key(3), "window": None if window is None else jnp.asarray(window)}
    found, expected = (value_and_gradients(BIAS[bias], plain, **options) for plain in (False, True))
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * (1 + np.abs(y).max()))
    moved = [bool(jnp.abs(x).max() > 0.1) for x in jax.tree.leaves(found[1])]
    assert all(moved) == (rate < 1)


def test_one_array_of_scores_is_stored_for_the_backward_pass():
    """[B, N, T, T], in the type of the values: the sign of a probability is the mask of dropout."""
    q, k, v = (x.astype(jnp.bfloat16) for x in (Q, K, V))

    def context(q, k, v):
        return attend(q, k, v, SEGMENTS, rate=0.1, key=random_keys.root_key(3))[0]

    kept = jax.tree.leaves(jax.vjp(context, q, k, v)[1])
    assert [x.dtype for x in kept if x.shape == (B, N, T, T)] == [jnp.bfloat16]


def layer_gradients(x, kernel):
    return jax.value_and_grad(lambda x, kernel: dense(x, kernel).astype(jnp.float32).sum(), (0, 1))(x, kernel)


def attention_gradients(q, k, v):
    def total(q, k, v):
        return attend(q, k, v, SEGMENTS, rate=0.1, key=random_keys.root_key(3))[0].astype(jnp.float32).sum()

    return jax.grad(total, (0, 1, 2))(q, k, v)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_products_have_bfloat16_operands_on_accelerators(platform):
    """A float32 operand would make a product float32; of the results only the two with the size of scores are narrow."""
    narrow = [x.astype(jnp.bfloat16) for x in (Q, K, V)]
    of_dense = jax.jit(layer_gradients).trace(narrow[0].reshape(-1, H), jnp.eye(H))
    of_attention = jax.jit(attention_gradients).trace(*narrow)
    for traced, count, rounded in ((of_dense, 3, 0), (of_attention, 6, 2)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        found = re.findall(r"dot_general .*: \(tensor<[\dx]*(\w+)>, tensor<[\dx]*(\w+)>\) -> tensor<[\dx]*(\w+)>", text)
        assert sorted(found) == [("bf16", "bf16", "bf16")] * rounded + [("bf16", "bf16", "f32")] * (count - rounded)


@pytest.mark.parametrize(("dtype", "units"), [(jnp.float32, False), (jnp.bfloat16, False), (jnp.bfloat16, True)])
def test_products_of_attention_on_cpus_use_fast_kernels(dtype, units, monkeypatch):
    """XLA:CPU has them for a left operand that is not transposed; with units for bfloat16 no operand is widened. The numbers
    are right in every case."""
    monkeypatch.setattr(backend, "multiplies_bfloat16", lambda: units)
    wide = [jnp.asarray(RNG.normal(size=(B, 64, N, 32)), jnp.float32) for _ in range(3)]

    def total(q, k, v):
        return jnp.square(attend(q, k, v, jnp.ones((B, 64), jnp.int32))[0].astype(jnp.float32)).sum()

    program = jax.jit(jax.grad(total, (0, 1, 2))).lower(*(x.astype(dtype) for x in wide)).compile()
    text = program.as_text()
    kinds = dict(re.findall(r"%([\w.\-]+) = (\w+)\[", text))
    found = re.findall(r" dot\(%([\w.\-]+), %([\w.\-]+)\).*lhs_contracting_dims=\{(\d)\}", text)
    assert len(found) == 6
    assert all({kinds[a], kinds[b]} == {"bf16" if units else "f32"} for a, b, _ in found)
    assert all(axis == "3" for *_, axis in found) or (dtype == jnp.bfloat16 and not units)
    right = jax.grad(total, (0, 1, 2))(*wide)
    for x, y in zip(program(*(x.astype(dtype) for x in wide)), right, strict=True):
        assert x.dtype == dtype
        np.testing.assert_allclose(np.asarray(x, np.float64), y, rtol=0, atol=CLOSE[dtype] * np.abs(y).max())


@pytest.mark.parametrize(
    ("axes", "formula"), [((3, 3), "bnij,bnkj->bnik"), ((3, 2), "bnij,bnjk->bnik"), ((2, 2), "bnij,bnik->bnjk")]
)
def test_batched_products_are_einsums(axes, formula):
    sizes = dict(zip("bnijk", (2, 3, 5, 7, 4), strict=True))
    a, b = (RNG.normal(size=[sizes[x] for x in part]) for part in formula.split("->")[0].split(","))
    found = jax.jit(batched, static_argnums=2)(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32), axes)
    np.testing.assert_allclose(found, np.einsum(formula, a, b), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dtype", "close"), [(jnp.float32, 1e-6), (jnp.bfloat16, 1e-2)])
def test_the_backward_pass_of_dense_is_numpys(dtype, close):
    """In float64; the gradient of the float32 kernel is float32."""
    x, kernel, g = (RNG.normal(size=shape) for shape in ((9, 5), (5, 3), (9, 3)))
    y, pull = jax.vjp(dense, jnp.asarray(x, dtype), jnp.asarray(kernel, jnp.float32))
    dx, dw = pull(jnp.asarray(g, dtype))
    assert (y.dtype, dx.dtype, dw.dtype) == (dtype, dtype, jnp.float32)
    for found, right in ((y, x @ kernel), (dx, g @ kernel.T), (dw, x.T @ g)):
        assert np.abs(np.asarray(found, np.float64) - right).max() <= close * np.abs(right).max()


@pytest.mark.parametrize("units", [True, False])
def test_the_gradient_of_a_kernel_with_and_without_bfloat16_units(units, monkeypatch):
    """The same up to rounding; with units no product widens its operands, without them one of three does."""
    monkeypatch.setattr(backend, "multiplies_bfloat16", lambda: units)
    x, kernel, g = (RNG.normal(size=shape) for shape in ((96, 64), (64, 128), (96, 128)))
    x, g = jnp.asarray(x, jnp.bfloat16), jnp.asarray(g, jnp.bfloat16)

    def gradients(x, kernel, g):
        return jax.vjp(dense, x, kernel)[1](g)

    program = jax.jit(gradients).lower(x, jnp.asarray(kernel, jnp.float32), g).compile()
    _, found = program(x, jnp.asarray(kernel, jnp.float32), g)
    right = np.asarray(x, np.float64).T @ np.asarray(g, np.float64)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-6 * np.abs(right).max())
    text = program.as_text()
    widened = [line for line in text.splitlines() if " dot(" in line and "lhs_contracting_dims={0}" in line]
    assert len(widened) == (0 if units else 1)


def test_each_kernel_is_cast_once():
    """For forward and backward, in an unrolled model: the compiler shares the cast."""

    def layers(x, kernels):
        for kernel in kernels:
            x = jnp.tanh(dense(x, kernel))
        return x.astype(jnp.float32).sum()

    kernels = [jnp.ones(shape) for shape in ((64, 128), (128, 72), (72, 24))]
    program = jax.jit(jax.grad(layers, (0, 1))).lower(jnp.ones((96, 64), jnp.bfloat16), kernels).compile()
    casts = re.findall(r"= bf16\[(64,128|128,72|72,24)\]\S* convert\(", program.as_text())
    assert sorted(casts) == ["128,72", "64,128", "72,24"]


@pytest.mark.parametrize(("dtype", "close"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("shape", [(64, 5), (4, 16, 5), (2, 2, 16, 5)])
def test_gradients_of_scale_and_bias_are_float32_sums(shape, dtype, close):
    """Of a layer norm, against sums in float64, whatever the type of the summands."""
    x, g = (RNG.normal(size=shape) for _ in range(2))
    module, params = LayerNorm(1e-12), {"scale": jnp.ones(5), "bias": jnp.zeros(5)}
    _, pull = jax.vjp(lambda p: module.apply({"params": p}, jnp.asarray(x, dtype)), params)
    found = pull(jnp.asarray(g, dtype))[0]
    normal = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    axes = tuple(range(len(shape) - 1))
    for name, right in (("bias", g.sum(axes)), ("scale", (g * normal).sum(axes))):
        assert found[name].dtype == jnp.float32
        assert np.abs(np.asarray(found[name], np.float64) - right).max() <= close * np.abs(right).max()
