"""Softmax for CPUs equals `jax.nn.softmax`, whatever length a row has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.models.encoder import softmax

LOWEST = np.finfo(np.float32).min


@pytest.mark.parametrize("length", [1, 5, 8, 16, 24, 72, 96, 100])
def test_softmax(length):
    x = np.random.default_rng(length).normal(size=(2, 3, 4, length)).astype(np.float32) * 30
    x[0, 0, 0] = LOWEST  # a row in which all is masked
    x[0, 0, 1, 1:] = LOWEST
    found = jax.jit(softmax.softmax)(x)
    np.testing.assert_allclose(found, jax.nn.softmax(jnp.asarray(x)), rtol=2e-6, atol=1e-30)
    e = jax.jit(softmax.exponentials)(x)
    np.testing.assert_allclose(e / e.sum(-1, keepdims=True), found, rtol=2e-6, atol=1e-30)
