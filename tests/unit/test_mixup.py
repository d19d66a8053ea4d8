"""Mixup of hidden states against its formula: lower layers run alone, numpy mixes, upper layers run on the mixture."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.core.random_keys import root_key
from jaxft.data.augmentation.pairs import LAYER, PRESENT, RATIO, in_pairs, mixing_pairs
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.replace import select_examples
from jaxft.losses import cross_entropy
from jaxft.models.encoder.config import DropoutRates
from jaxft.models.model import make_model
from jaxft.step.mixup import Mixup
from jaxft.step.pairs import split_pairs
from tests.support import tiny

SIZES = [5, 3, 6, 4, 2, 7, 5]  # an odd number of examples: one has no partner


@pytest.fixture(scope="module")
def model():
    return make_model(tiny.CONFIG | {"num_hidden_layers": 3}, "text-classification", "tiny")


@pytest.fixture(scope="module")
def params(model):
    return tiny.random_params(model)


def examples() -> Examples:
    rng, total = np.random.default_rng(0), sum(SIZES)
    tokens = {"input_ids": rng.integers(1, 41, total).astype(np.int32), "token_type_ids": np.zeros(total, np.int8)}
    tokens["labels"] = rng.integers(0, 3, total).astype(np.int32)
    return Examples(tokens, np.cumsum([0, *SIZES]), {"label": np.arange(len(SIZES), dtype=np.int32)})


def batches(layout: str):
    """The one step of an epoch of pairs, as single examples."""
    pairs = mixing_pairs(examples(), seed=1, epoch=2, alpha=0.7, layers=(1, 2))
    sampler = make_sampler(pairs.lengths, batch_size=4, max_length=14, layout=layout, seed=0)
    batch = {name: jnp.asarray(x) for name, x in sampler.epoch_batches(0).batch(pairs, 0).items()}
    return pairs, {name: x[0] for name, x in split_pairs(batch).items()}


def test_a_missing_example_of_a_full_row_is_read_inside_the_row():
    """A read beyond its end is NaN, which a weight of 0 does not take out of the loss."""
    single = select_examples(examples(), np.array([5]))
    pairs = in_pairs(
        replace(single, tokens={name: np.resize(x, 8) for name, x in single.tokens.items()}, offsets=np.array([0, 8]))
    )
    sampler = make_sampler(pairs.lengths, batch_size=1, max_length=8, layout="pad", seed=0)
    batch = {name: jnp.asarray(x) for name, x in sampler.epoch_batches(0).batch(pairs, 0).items()}
    assert batch["first_token"].tolist() == [[[0, 8]]]
    assert batch["segment_ids"].shape == (1, 1, 8)
    assert split_pairs(batch)["first_token"].tolist() == [[[0, 0]]]


def alone(model, params, ids):
    """Hidden states of one sequence, [L + 1, T, D]."""
    count = len(ids)
    inputs = {"input_ids": jnp.asarray(ids)[None], "token_type_ids": jnp.zeros((1, count), jnp.int32)}
    inputs |= {"position_ids": jnp.arange(count)[None], "segment_ids": jnp.ones((1, count), jnp.int32)}
    return np.asarray(
        model.encoder.apply(params["encoder"], inputs, rates=DropoutRates({}), outputs=("hidden_states",))["hidden_states"]
    )[:, 0]


def above(model, params, states, layer):
    """The last hidden states [T, D] of the layers above `layer` on hidden states [T, D]."""
    encoder, count = params["encoder"], len(states)
    (stack,) = encoder["layer"].values()
    rest = {f"{layer}:3": jax.tree.map(lambda x: x[layer:], stack)}
    inputs = {"position_ids": jnp.arange(count)[None], "segment_ids": jnp.ones((1, count), jnp.int32)}
    inputs["hidden_states"] = jnp.asarray(states)[None]
    return np.asarray(model.encoder.apply(encoder | {"layer": rest}, inputs, rates=DropoutRates({}))["last_hidden_state"])[0]


@pytest.mark.parametrize("layout", ["pack", "pad"])
def test_hidden_states_are_mixed_after_the_layer_of_the_pair(model, params, layout):
    pairs, batch = batches(layout)
    mixup = Mixup(batch)
    mixed = np.asarray(
        model.encoder.apply(params["encoder"], batch, rates=DropoutRates({}), between=mixup.between)["last_hidden_state"]
    )
    seen = set()
    for row, slot in zip(*np.nonzero(np.asarray(batch["weights"])), strict=True):
        number = int(batch["example"][row, slot])
        own, other = (pairs.tokens["input_ids"][slice(*pairs.offsets[n : n + 2])] for n in (number, number ^ 1))
        ratio, layer = float(batch[RATIO][row, slot]), int(batch[LAYER][row, slot])
        states, common = alone(model, params, own)[layer].copy(), min(len(own), len(other))
        if common:
            partner = alone(model, params, other)[layer]
            states[:common] = ratio * states[:common] + (1 - ratio) * partner[:common]
        begin = int(batch["first_token"][row, slot])
        expected = above(model, params, states, layer)
        np.testing.assert_allclose(mixed[row, begin : begin + len(own)], expected, rtol=2e-5, atol=2e-6)
        seen.add(int(batch["label"][row, slot]))
    assert seen == set(range(len(SIZES)))


def test_labels_of_examples_are_mixed():
    _, batch = batches("pack")
    logits = jax.random.normal(root_key(0), (*batch["weights"].shape, len(SIZES)))

    def loss(x):
        return cross_entropy(logits, x["labels"], x["weights"])

    total, weight = Mixup(batch | {"labels": batch["label"]}).loss(loss, tokens=False)
    costs = -np.asarray(jax.nn.log_softmax(logits))
    expected = 0.0
    for row, slot in zip(*np.nonzero(np.asarray(batch["weights"])), strict=True):
        ratio = float(batch[RATIO][row, slot]) if batch["weights"][row, slot ^ 1] else 1.0
        own, other = int(batch["label"][row, slot]), int(batch["label"][row, slot ^ 1])
        expected += ratio * costs[row, slot, own] + (1 - ratio) * costs[row, slot, other]
    np.testing.assert_allclose(float(total), expected, rtol=1e-6)
    np.testing.assert_allclose(float(weight), len(SIZES), rtol=1e-6)


def test_labels_of_tokens_are_mixed_where_both_have_a_token():
    pairs, batch = batches("pack")
    logits = jax.random.normal(root_key(0), (*batch["segment_ids"].shape, 2))

    def loss(x):
        return cross_entropy(logits, x["labels"] - 1, (x["labels"] > 0) * x["token_weights"])

    total, weight = Mixup(batch).loss(loss, tokens=True)
    costs, expected, count = -np.asarray(jax.nn.log_softmax(logits)), 0.0, 0.0
    for row, slot in zip(*np.nonzero(np.asarray(batch["weights"])), strict=True):
        number, begin = int(batch["example"][row, slot]), int(batch["first_token"][row, slot])
        own, other = (pairs.tokens["labels"][slice(*pairs.offsets[n : n + 2])] for n in (number, number ^ 1))
        for i, label in enumerate(own):
            ratio = float(batch[RATIO][row, slot]) if i < len(other) else 1.0
            for share, name in ((ratio, label), (1 - ratio, other[i] if i < len(other) else 0)):
                expected += share * costs[row, begin + i, name - 1] if name else 0.0
                count += share if name else 0.0
    np.testing.assert_allclose([float(total), float(weight)], [expected, count], rtol=1e-6)


def test_pairs_differ_between_epochs_and_lose_no_example():
    first, again, second = (mixing_pairs(examples(), seed=1, epoch=e, alpha=0.7, layers=(1, 2)) for e in (0, 0, 1))
    assert replace(first, tokens={}, columns={}).offsets.tolist() == again.offsets.tolist()
    labels = [x.columns["label"][x.columns[PRESENT] > 0] for x in (first, second)]
    assert [sorted(x) for x in labels] == [list(range(7))] * 2
    assert labels[0].tolist() != labels[1].tolist()
    assert (first.columns[RATIO] >= 0.5).all()
    assert (first.columns[RATIO] != second.columns[RATIO]).all()
