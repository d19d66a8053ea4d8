"""Layers in a loop or unrolled: the same gradients, also with dropout; and what a loop stores for the backward pass."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.core import random_keys, tree
from jaxft.models.encoder.config import Policy
from jaxft.models.encoder.layers import ACTIVATIONS, elementwise
from jaxft.models.model import make_model
from tests.support import tiny, zoo

ROWS, LENGTH = 7, 16


def batch_of(config) -> dict[str, jax.Array]:
    rng, zeros = np.random.default_rng(0), np.zeros((ROWS, LENGTH), np.int32)
    batch = {
        "input_ids": rng.integers(5, config.vocab_size, (ROWS, LENGTH), dtype=np.int32),
        "token_type_ids": zeros,
        "segment_ids": zeros + 1,
        "position_ids": zeros + np.arange(LENGTH, dtype=np.int32),
        "first_token": zeros[:, :1],
    }
    return jax.tree.map(jnp.asarray, batch)


def objective(model, batch):
    return lambda params: model.apply(params, batch, key=random_keys.root_key(3))["logits"].astype(jnp.float32).sum()


@pytest.mark.parametrize(("policy", "loops"), [(Policy(unroll=None), 0), (Policy(unroll=None, platform="tpu"), 1)])
def test_layers_are_in_a_loop_on_tpus(policy, loops):
    """Unrolled layers would take libtpu many minutes to compile."""
    model = replace(make_model(zoo.fixed("bert", "text-classification"), "text-classification", "zoo"), policy=policy)
    params, batch = tiny.random_params(model), batch_of(model.encoder.config)
    assert jax.jit(objective(model, batch)).lower(params).as_text().count("stablehlo.while") == loops


@pytest.mark.parametrize("family", zoo.families(("bert", "modernbert")))
def test_a_loop_gives_the_gradients_of_unrolled_layers(family):
    model = make_model(zoo.fixed(family, "text-classification"), "text-classification", "zoo")
    params, batch = tiny.random_params(model), batch_of(model.encoder.config)
    found = []
    for policy in (Policy(unroll=model.encoder.config.num_layers), Policy(unroll=1), Policy(checkpoint_layers=True)):
        own = replace(model, policy=policy)
        found.append(tree.unstack(jax.device_get(jax.jit(jax.grad(objective(own, batch)))(params))))
    plain, *others = found
    largest = max(np.abs(x).max() for x in plain.values())
    for name, x in plain.items():
        for other in others:
            np.testing.assert_allclose(other[name], x, rtol=0, atol=1e-5 * largest, err_msg=name)


def test_checkpointed_layers_save_only_their_inputs():
    model = make_model(zoo.fixed("bert", "text-classification"), "text-classification", "zoo")
    model = replace(model, policy=Policy(checkpoint_layers=True))
    params, batch = model.abstract(), batch_of(model.encoder.config)
    kept = jax.eval_shape(lambda p: jax.vjp(objective(model, batch), p)[1], params)
    c = model.encoder.config
    stacked = [x for x in jax.tree.leaves(kept) if x.shape[:1] == (c.num_layers,) and ROWS in x.shape[1:]]
    assert [x.shape for x in stacked] == [(c.num_layers, ROWS, LENGTH, c.hidden_size)]


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_loop_stores_activations_in_their_own_type(family):
    """In bfloat16 no array [layers, rows, tokens, features] is stored in float32, as activations and norms would do."""
    model = make_model(zoo.fixed(family, "text-classification"), "text-classification", "zoo")
    model = replace(model, policy=Policy("bfloat16", unroll=1))
    params, batch = model.abstract(), batch_of(model.encoder.config)
    kept = jax.eval_shape(lambda p: jax.vjp(objective(model, batch), p)[1], params)
    c = model.encoder.config
    layers = c.num_layers - c.first_layer_differs  # the first one of ModernBERT is not in the loop
    stacked = [x for x in jax.tree.leaves(kept) if x.shape[:1] == (layers,) and x.shape[1:2] in ((ROWS,), (ROWS * LENGTH,))]
    wide = [x for x in stacked if x.size >= layers * ROWS * LENGTH * c.hidden_size]
    assert any(x.dtype == jnp.bfloat16 for x in wide)
    assert [x for x in wide if x.dtype == jnp.float32] == []


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivative_of_an_elementwise_activation_is_right(name):
    """It is that of plain differentiation, in bfloat16 rounded once; only the argument is stored."""
    function = ACTIVATIONS[name]
    x, g = jnp.linspace(-8.03, 8.07, 402), jnp.linspace(0.3, 2.0, 402)
    y, backward = jax.vjp(partial(elementwise, function), x)
    [expected] = jax.vjp(function, x)[1](g)
    assert np.array_equal(y, function(x))
    np.testing.assert_allclose(backward(g)[0], expected, rtol=1e-5, atol=1e-6)
    assert [leaf.shape for leaf in jax.tree.leaves(backward)] == [x.shape]
    narrow, of_g = x.astype(jnp.bfloat16), g.astype(jnp.bfloat16)
    [found] = jax.vjp(partial(elementwise, function), narrow)[1](of_g)
    [exact] = jax.vjp(function, narrow.astype(jnp.float32))[1](of_g.astype(jnp.float32))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=2**-8, atol=1e-6)
