"""Outputs of single layers: those of the whole encoder, wherever its layers are cut, and nothing that is not asked for."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.core import tree
from jaxft.models.encoder.attention import PROBABILITIES, PROJECTIONS, SCORES
from jaxft.models.encoder.config import Policy
from jaxft.models.encoder.layer_outputs import HIDDEN, layer_output
from jaxft.models.model import make_model
from tests.support import tiny, zoo
from tests.support.families import examples
from tests.support.layouts import batch_of

KIND = "feature-extraction"
OF_LAYERS = (PROBABILITIES, SCORES, *PROJECTIONS)


def outputs_of(model, params, batch, names, unroll=1):
    policy = Policy(unroll=unroll)
    apply = jax.jit(lambda p: model.encoder.apply(p, batch, rates=model.rates, outputs=names, policy=policy))
    return jax.device_get(apply(params["encoder"]))


@pytest.mark.parametrize("family", zoo.families(("bert", "albert", "modernbert")))
def test_the_output_of_a_layer_is_a_part_of_that_of_all_layers(family):
    config = zoo.fixed(family, KIND)
    model = make_model(config, KIND, "zoo")
    params, batch = tiny.random_params(model), batch_of(examples(model), "pack")
    whole = outputs_of(model, params, batch, (HIDDEN, *OF_LAYERS))
    layers = model.encoder.config.applied_layers
    assert len(whole[HIDDEN]) == layers + 1
    some = {layer_output(HIDDEN, i) for i in range(0, layers + 1, 2)} | {layer_output(HIDDEN, layers)}
    some |= {layer_output(name, 1 + i % layers) for i, name in enumerate(OF_LAYERS)}
    cut = {**params, "encoder": tree.recut(params["encoder"], [1])}
    for weights, unroll in ((params, 12), (cut, 1)):
        found = outputs_of(model, weights, batch, some, unroll)
        assert found.keys() == some | {"last_hidden_state"}
        for name in some:
            kind, layer = name.split(".")
            right = whole[kind][int(layer) - (kind != HIDDEN)]
            np.testing.assert_allclose(found[name], right, rtol=1e-5, atol=1e-6 * np.abs(right[right > -1e30]).max())


@pytest.mark.parametrize("family", zoo.families(("bert",)))
def test_scores_are_what_softmax_reads(family):
    model = make_model(zoo.fixed(family, KIND), KIND, "zoo")
    params, batch = tiny.random_params(model), batch_of(examples(model), "pack")
    names = (SCORES, PROBABILITIES, "queries", "keys")
    found = outputs_of(model, params, batch, names)
    real = batch["segment_ids"] > 0
    probabilities = np.asarray(jax.nn.softmax(found[SCORES], axis=-1))
    error = np.abs(probabilities - found[PROBABILITIES]).swapaxes(2, 3)[:, real]
    assert error.max() <= 1e-6
    c = model.encoder.config
    if not (c.rotary or c.relative or c.distance_bias):
        products = np.einsum("lbtnh,lbsnh->lbnts", found["queries"], found["keys"]) / found["keys"].shape[-1] ** 0.5
        seen = found[SCORES] > -1e30
        assert seen.any()
        np.testing.assert_allclose(products[seen], found[SCORES][seen], rtol=1e-4, atol=1e-5)


LAYERS, HEADS, LENGTH = 5, 3, 22


def shapes(outputs, unroll) -> list[list[int]]:
    """Those of all arrays in the compiled forward pass that returns some outputs of a model of five layers."""
    model = make_model(tiny.CONFIG | {"num_hidden_layers": LAYERS}, KIND, "tiny", policy=Policy(unroll=unroll))
    ids = jnp.ones((2, LENGTH), jnp.int32)
    batch = {"input_ids": ids, "token_type_ids": ids * 0, "segment_ids": ids, "position_ids": ids * jnp.arange(LENGTH)[None]}

    def apply(params):
        found = model.encoder.apply(params, batch, rates=model.rates, outputs=outputs, policy=model.policy)
        return {name: found[name] for name in (*outputs, "last_hidden_state")}

    text = jax.jit(apply).lower(tiny.random_params(model)["encoder"]).compile().as_text()
    return [list(map(int, found.split(","))) for found in re.findall(r"f32\[([\d,]+)\]", text)]


def scores(found) -> set[tuple[int, ...]]:
    """The shapes that hold attention for all heads: [.., 2, HEADS, LENGTH, LENGTH]."""
    return {tuple(x) for x in found if x[-2:] == [LENGTH, LENGTH] and HEADS in x[:-2]}


def keeps(found, count: int) -> bool:
    """Whether an array has hidden states or queries of `count` layers."""
    return any(x[0] == count and x[1:3] in ([2, LENGTH], [1, 2]) and np.prod(x) == count * 2 * LENGTH * 24 for x in found)


@pytest.mark.parametrize("unroll", [1, 12])
def test_what_is_not_asked_for_is_not_kept(unroll):
    """No scores are written for hidden states, and those of one layer only if one is asked for."""
    plain = shapes((), unroll)
    ends, inner = (shapes(names, unroll) for names in (["hidden_states.5", "queries.4"], ["hidden_states.2"]))
    assert scores(ends) | scores(inner) <= scores(plain)
    assert not keeps(plain, LAYERS)
    assert not keeps(ends, LAYERS)
    assert keeps(inner, LAYERS) == (unroll == 1)
    one = shapes(["attention_scores.3", "attentions.3"], unroll)
    assert not any(LAYERS in x[:-3] or 4 in x[:-3] for x in scores(one))
    assert unroll > 1 or any(x[0] == LAYERS for x in scores(shapes(["attention_scores"], unroll)))
