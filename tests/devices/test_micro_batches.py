"""Micro-batches over several devices: each device adds up its own rows, and gradients are exchanged once per step."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import optim
from jaxft.config import MeshConfig, OptimConfig
from jaxft.core import random_keys, tree
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.parallel import sharding
from jaxft.preflight import hlo
from jaxft.run.loss import make_loss
from jaxft.step.compilation import abstract_batch, lower_train
from jaxft.step.parameters import Parameters
from jaxft.step.stages import state_shardings
from jaxft.step.train_step import init_state, train_step
from jaxft.tasks.text_classification import TextClassification
from tests.support.families import LABELS, LENGTHS, SETTINGS, examples, planned
from tests.support.steps import RECORDER

MICRO_BATCHES, ROWS, LENGTH = 3, 16, 24
NUMBERS = 128  # bytes of the loss, its weight and norms


def exchanged(data: int, fsdp: int, *, needs_all_rows: bool = False) -> tuple[int, dict[str, hlo.Collective]]:
    """(bytes of the parameters, what devices exchange in a step of three micro-batches, by kind)."""
    model, params, made = planned("distilbert", {})
    labelled = replace(examples(model), columns={"labels": np.zeros(len(LENGTHS), np.int32)})
    count = MICRO_BATCHES * ROWS
    parts = {"max_length": LENGTH, "layout": "pad", "seed": 0, "shards": 8, "micro_batches": MICRO_BATCHES}
    sampler = make_sampler(np.full(count, LENGTH), batch_size=count, **parts)
    mesh = sharding.make_mesh(MeshConfig(data=data, fsdp=fsdp))
    batch = abstract_batch(sampler, next(iter(sampler.shapes)), labelled, sharding.batch_sharding(mesh))
    optimizer, hyper = optim.make_optimizer(SETTINGS, made, 10), optim.hyperparameters(SETTINGS)
    trained, frozen = (sharding.shapes(mesh, x) for x in made.split(params))
    state = jax.eval_shape(lambda p: init_state(p, optimizer, random_keys.root_key(0), hyper), trained)
    state = jax.tree.map(sharding.with_sharding, state, state_shardings(mesh, state))
    loss = make_loss(model, TextClassification(LABELS))
    step = lower_train(loss, optimizer, state, Parameters(frozen), batch, needs_all_rows=needs_all_rows).compile()
    return 4 * tree.count(params), hlo.by_kind(hlo.collectives(step.as_text()))


def test_gradients_are_exchanged_once_per_step():
    size, moved = exchanged(data=8, fsdp=1)
    assert list(moved) == ["all-reduce"]
    assert size <= moved["all-reduce"].size <= size + NUMBERS


@pytest.mark.slow
def test_split_gradients_are_exchanged_for_each_micro_batch_where_they_are_split_only():
    """Over fsdp for each micro-batch, because no device has room for whole gradients; a quarter of each over data, once."""
    size, moved = exchanged(data=2, fsdp=4)
    assert moved["all-reduce"].size <= (MICRO_BATCHES + 0.25) * 1.02 * size + NUMBERS
    assert moved["all-gather"].size <= 2 * MICRO_BATCHES * size
    assert moved.keys() == {"all-reduce", "all-gather"}


@pytest.mark.slow
def test_a_loss_that_needs_all_rows_has_its_gradients_exchanged_for_each_micro_batch():
    size, moved = exchanged(data=8, fsdp=1, needs_all_rows=True)
    assert moved["all-reduce"].size >= MICRO_BATCHES * size


@pytest.mark.parametrize("needs_all_rows", [False, True])
def test_a_loss_that_compares_rows_sees_all_of_a_micro_batch_if_it_says_so(needs_all_rows):
    """The square of a sum over rows is not the sum of squares."""

    def loss(params, batch, key, hyper):
        return ((params.model["scale"] * batch["x"].sum()) ** 2, batch["x"].sum()), {}

    x = jnp.arange(1, 9, dtype=jnp.float32).reshape(2, 4, 1)  # micro-batches with the sums 10 and 26
    state = init_state({"scale": jnp.ones(())}, RECORDER, random_keys.root_key(0), optim.hyperparameters(OptimConfig()))
    step = jax.jit(partial(train_step, loss_fn=loss, optimizer=RECORDER, needs_all_rows=needs_all_rows))
    mesh = sharding.make_mesh(MeshConfig(data=4))
    with sharding.use_mesh(mesh):
        _, metrics = step(state, Parameters({}), {"x": jax.device_put(x, sharding.batch_sharding(mesh))})
    total = 10**2 + 26**2 if needs_all_rows else float((x**2).sum())
    assert float(metrics["loss"]) == pytest.approx(total / 36)
