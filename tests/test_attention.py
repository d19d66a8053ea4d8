"""Attention's own backward pass against differentiation of the plain formula, and what it keeps; dense likewise."""

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import runtime
from jaxft.models.attention import attend
from jaxft.models.layers import LayerNorm
from jaxft.models.products import dense

B, T, N, H = 3, 7, 2, 4
SEGMENTS = jnp.asarray([[1, 1, 1, 2, 2, 0, 0], [1] * 7, [0] * 7], jnp.int32)  # packed, full, empty
RNG = np.random.default_rng(0)
Q, K, V, G = (jnp.asarray(RNG.normal(size=(B, T, N, H)), jnp.float32) for _ in range(4))
BIAS = {
    "none": None,
    "for all rows": jnp.asarray(RNG.normal(size=(1, N, T, T)), jnp.float32),
    "for each row": jnp.asarray(RNG.normal(size=(B, N, T, T)), jnp.float32),
}


def value_and_gradients(bias, probabilities: bool, **options):
    """Of one number; asking for the probabilities takes the plain formula, which JAX differentiates."""

    def objective(q, k, v, bias):
        context, _ = attend(q, k, v, SEGMENTS, bias=bias, return_probabilities=probabilities, **options)
        return (context * G).sum()

    return jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2, 3)))(Q, K, V, bias)


@pytest.mark.parametrize("bias", BIAS)
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("window", [None, 2])
def test_backward(bias, rate, window):
    options = {"rate": rate, "key": runtime.root_key(3), "window": None if window is None else jnp.asarray(window)}
    found, expected = (value_and_gradients(BIAS[bias], plain, **options) for plain in (False, True))
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * (1 + np.abs(y).max()))
    moved = [bool(jnp.abs(x).max() > 0.1) for x in jax.tree.leaves(found[1])]
    assert all(moved) == (rate < 1)


def test_one_array_of_scores_is_kept():
    """Of [B, N, T, T], in the type of the values: dropout's mask is the sign of the probabilities."""
    q, k, v = (x.astype(jnp.bfloat16) for x in (Q, K, V))

    def context(q, k, v):
        return attend(q, k, v, SEGMENTS, rate=0.1, key=runtime.root_key(3))[0]

    kept = jax.tree.leaves(jax.vjp(context, q, k, v)[1])
    assert [x.dtype for x in kept if x.shape == (B, N, T, T)] == [jnp.bfloat16]


def products(jaxpr) -> list[tuple]:
    """Types of operands and result of every matrix product in a program."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            found.append(tuple(x.aval.dtype.name for x in (*equation.invars, *equation.outvars)))
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            found += products(inner)
    return found


def test_products_take_the_narrow_type(monkeypatch):
    """An accelerator would compute a product with a float32 operand in float32."""
    monkeypatch.setattr(runtime, "multiplies_bfloat16", lambda: False)  # or there are two ways to one of them
    x, kernel, q = (y.astype(jnp.bfloat16) for y in (Q.reshape(-1, H), jnp.eye(H), Q))

    def layer(x, kernel):
        return dense(x, kernel).astype(jnp.float32).sum()

    def scores(q):
        return attend(q, q, q, SEGMENTS, rate=0.1, key=runtime.root_key(3))[0].astype(jnp.float32).sum()

    of_dense = jax.make_jaxpr(jax.grad(layer, (0, 1)))(x, kernel.astype(jnp.float32))
    of_attention = jax.make_jaxpr(jax.grad(scores))(q)
    for program, count, narrow in ((of_dense, 3, 0), (of_attention, 6, 2)):  # the two are as large as the scores
        found = products(program.jaxpr)
        assert [x[:2] for x in found] == [("bfloat16", "bfloat16")] * count
        assert sorted(x[2] for x in found) == ["bfloat16"] * narrow + ["float32"] * (count - narrow)


@pytest.mark.parametrize(("dtype", "close"), [(jnp.float32, 1e-6), (jnp.bfloat16, 1e-2)])
def test_dense_backward(dtype, close):
    """Against numpy in float64; the gradient of the float32 kernel is float32."""
    x, kernel, g = (RNG.normal(size=shape) for shape in ((9, 5), (5, 3), (9, 3)))
    y, pull = jax.vjp(dense, jnp.asarray(x, dtype), jnp.asarray(kernel, jnp.float32))
    dx, dw = pull(jnp.asarray(g, dtype))
    assert (y.dtype, dx.dtype, dw.dtype) == (dtype, dtype, jnp.float32)
    for found, right in ((y, x @ kernel), (dx, g @ kernel.T), (dw, x.T @ g)):
        assert np.abs(np.asarray(found, np.float64) - right).max() <= close * np.abs(right).max()


@pytest.mark.parametrize("units", [True, False])
def test_a_kernels_gradient_on_processors_that_multiply_bfloat16(units, monkeypatch):
    """The same to the rounding of float32 sums; and no product widens its operands, as one of the three does elsewhere."""
    monkeypatch.setattr(runtime, "multiplies_bfloat16", lambda: units)
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


@pytest.mark.parametrize(("dtype", "close"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("shape", [(64, 5), (4, 16, 5), (2, 2, 16, 5)])
def test_gradients_of_vectors(shape, dtype, close):
    """Scale and bias of a layer norm against sums in float64; they are float32, whatever the type of what is summed."""
    x, g = (RNG.normal(size=shape) for _ in range(2))
    module, params = LayerNorm(1e-12), {"scale": jnp.ones(5), "bias": jnp.zeros(5)}
    _, pull = jax.vjp(lambda p: module.apply({"params": p}, jnp.asarray(x, dtype)), params)
    found = pull(jnp.asarray(g, dtype))[0]
    normal = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    axes = tuple(range(len(shape) - 1))
    for name, right in (("bias", g.sum(axes)), ("scale", (g * normal).sum(axes))):
        assert found[name].dtype == jnp.float32
        assert np.abs(np.asarray(found[name], np.float64) - right).max() <= close * np.abs(right).max()
