"""Every family: packed = padded, eight devices = one, and examples of a row do not influence each other. Needs no torch."""

from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.config import MeshConfig
from jaxft.core import tree
from jaxft.models.encoder.config import Policy
from jaxft.models.model import make_model
from jaxft.parallel import sharding
from tests.support import tiny, zoo
from tests.support.families import examples
from tests.support.layouts import batch_of

KINDS = ("text-classification", "token-classification")


class Case:
    """A random model with a head, and one compiled program a layout: (loss, logits, gradients by parameter)."""

    def __init__(self, family: str, kind: str) -> None:
        seed = KINDS.index(kind)
        self.kind = kind
        # A loop over layers is traced once; test_loops.py shows that it computes the same.
        self.model = make_model(zoo.fixed(family, kind, seed), kind, "zoo", policy=Policy(unroll=1))
        self.params = tiny.random_params(self.model, seed)
        self.data = examples(self.model)
        self.program = jax.jit(jax.value_and_grad(self.loss, has_aux=True))

    def loss(self, params, batch):
        """A sum over examples, or tokens, each with its own weight; and the logits."""
        logits = self.model.apply(params, batch)["logits"]
        if self.kind == "text-classification":
            weight = jnp.where(batch["example"] >= 0, 1.0 + batch["example"], 0.0)
        else:
            weight = jnp.where(batch["segment_ids"] > 0, 1.0 + batch["position_ids"], 0.0)
        features = jnp.cos(jnp.arange(logits.shape[-1], dtype=jnp.float32))
        return jnp.sum(jnp.sin(logits) * weight[..., None] * features[None, None]) / logits.shape[-1], logits

    def run(self, batch, params=None):
        (value, logits), grads = jax.device_get(self.program(self.params if params is None else params, batch))
        return float(value), logits, tree.unstack(grads)

    @cached_property
    def packed(self):
        return self.run(batch_of(self.data, "pack"))


@pytest.fixture(scope="module")
def case(request) -> Case:
    return Case(*request.param)


def of_families(kinds):
    """Every family with every kind of head."""
    names = [pytest.param((x.id, k), marks=x.marks, id=f"{x.id}-{k}") for x in zoo.families() for k in kinds]
    return pytest.mark.parametrize("case", names, indirect=True)


cases, token_cases = of_families(KINDS), of_families(KINDS[1:])


def assert_same(found, right) -> None:
    assert found[0] == pytest.approx(right[0], rel=1e-5)
    largest = max(np.abs(g).max() for g in right[2].values())
    assert largest > 1e-2
    for name, g in right[2].items():
        assert np.abs(found[2][name] - g).max() <= 1e-5 * largest, name


@cases
def test_packed_rows_give_what_padded_rows_give(case):
    padded = batch_of(case.data, "pad")
    assert batch_of(case.data, "pack")["segment_ids"].max() > 1
    assert padded["segment_ids"].max() == 1
    assert_same(case.packed, case.run(padded))


@token_cases
def test_eight_devices_give_what_one_gives(case):
    mesh = sharding.make_mesh(MeshConfig(data=4, fsdp=2))
    params = sharding.device_put(case.params, sharding.param_shardings(mesh, case.params))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp")))
    batch = {name: jax.device_put(x, rows) for name, x in batch_of(case.data, "pack").items()}
    with sharding.use_mesh(mesh):
        assert_same(case.run(batch, params), case.packed)


@token_cases
def test_examples_of_a_row_do_not_influence_each_other(case):
    """Neither through attention nor through positions or convolution."""
    batch = batch_of(case.data, "pack")
    row = int(np.argmax(batch["segment_ids"].max(1)))
    mine = batch["segment_ids"][row] == 2
    changed = batch["input_ids"].copy()
    changed[row, ~mine] = (changed[row, ~mine] + 1) % case.model.encoder.config.vocab_size
    before, after = (logits[row] for _, logits, _ in (case.packed, case.run(batch | {"input_ids": changed})))
    np.testing.assert_array_equal(before[mine], after[mine])
    assert not np.array_equal(before[~mine], after[~mine])
