"""Every family: packed = padded, and eight devices = one, in outputs, loss and gradients. Needs no torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import runtime, sharding, tree
from jaxft.config import MeshConfig
from jaxft.data.batches import make_planner
from jaxft.data.encode import Examples
from jaxft.models.families import FAMILIES
from jaxft.models.model import Model, make_model
from tests import zoo

KINDS = ("text-classification", "token-classification")
LENGTHS = np.array([7, 3, 12, 1, 9, 5, 10, 2])


def random_model(family: str, kind: str, seed: int = 0) -> tuple[Model, dict]:
    """A model of the zoo with every parameter away from zero and one."""
    model = make_model(zoo.fixed(family, kind, seed), kind, "zoo")
    params = jax.tree.map(np.asarray, model.init(runtime.root_key(seed)))
    noise = np.random.default_rng(seed)
    return model, jax.tree.map(lambda x: (x + noise.normal(0, 0.1, x.shape)).astype(np.float32), params)


def examples(model: Model) -> Examples:
    rng, config = np.random.default_rng(1), model.encoder.config
    total = LENGTHS.sum()
    tokens = {
        "input_ids": rng.integers(0, config.vocab_size, total).astype(np.int32),
        "token_type_ids": rng.integers(0, max(1, config.type_vocab_size), total).astype(np.int32),
    }
    return Examples(tokens, np.concatenate([[0], np.cumsum(LENGTHS)]), {})


def batch_of(data: Examples, layout: str) -> dict[str, np.ndarray]:
    planner = make_planner(data.lengths, batch_size=len(LENGTHS), max_length=24, layout=layout, seed=0, shards=8)
    return {name: x[0] for name, x in planner.plan_epoch(0).batch(data, 0).items()}


def loss(params, batch, model: Model, kind: str):
    """A sum over examples, or over tokens, in which each weighs what it says itself."""
    logits = model.apply(params, batch)["logits"]
    if kind == "text-classification":
        weight = jnp.where(batch["example"] >= 0, 1.0 + batch["example"], 0.0)
    else:
        weight = jnp.where(batch["segment_ids"] > 0, 1.0 + batch["position_ids"], 0.0)
    features = jnp.cos(jnp.arange(logits.shape[-1], dtype=jnp.float32))
    return jnp.sum(jnp.sin(logits) * weight[..., None] * features[None, None]) / logits.shape[-1]


def value_and_gradients(model: Model, params, batch, kind: str, mesh=None):
    if mesh is not None:
        params = sharding.place(params, sharding.param_shardings(mesh, params))
        rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp")))
        batch = {name: jax.device_put(x, rows) for name, x in batch.items()}
    value, grads = jax.jit(jax.value_and_grad(loss), static_argnums=(2, 3))(params, batch, model, kind)
    return float(value), tree.unstack(jax.tree.map(np.asarray, grads))


def assert_same(found, right) -> None:
    assert found[0] == pytest.approx(right[0], rel=1e-5)
    largest = max(np.abs(g).max() for g in right[1].values())
    assert largest > 1e-2
    for name, g in right[1].items():
        assert np.abs(found[1][name] - g).max() <= 1e-5 * largest, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_is_padded(family, kind):
    model, params = random_model(family, kind)
    data = examples(model)
    packed, padded = (batch_of(data, layout) for layout in ("pack", "pad"))
    assert packed["segment_ids"].max() > 1
    assert padded["segment_ids"].max() == 1
    right = value_and_gradients(model, params, padded, kind)
    assert_same(value_and_gradients(model, params, packed, kind), right)


@pytest.mark.parametrize("family", FAMILIES)
def test_eight_devices_are_one(family):
    kind = "token-classification"
    model, params = random_model(family, kind, seed=1)
    batch = batch_of(examples(model), "pack")
    right = value_and_gradients(model, params, batch, kind)
    mesh = sharding.make_mesh(MeshConfig(data=4, fsdp=2))
    assert_same(value_and_gradients(model, params, batch, kind, mesh), right)


def test_neighbours_in_a_row_do_not_matter():
    """What an example's tokens become does not depend on who shares its row, for attention, positions and convolution."""
    for family in FAMILIES:
        model, params = random_model(family, "token-classification", seed=2)
        batch = batch_of(examples(model), "pack")
        row = int(np.argmax(batch["segment_ids"].max(1)))
        mine = batch["segment_ids"][row] == 2
        other = dict(batch)
        changed = batch["input_ids"].copy()
        changed[row, ~mine] = (changed[row, ~mine] + 1) % model.encoder.config.vocab_size
        other["input_ids"] = changed
        apply = jax.jit(model.apply)
        before, after = (np.asarray(apply(params, b)["logits"])[row] for b in (batch, other))
        np.testing.assert_array_equal(before[mine], after[mine], err_msg=family)
        assert not np.array_equal(before[~mine], after[~mine])
