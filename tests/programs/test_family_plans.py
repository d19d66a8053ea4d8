"""Every family with adapters and with stages: steps change the parameters that the plan says, and packed rows on eight
devices give what padded rows on one give. Needs no torch."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from jaxft import optim
from jaxft.config import MeshConfig
from jaxft.core import random_keys, tree
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.batching.prefetch import put
from jaxft.models.families import FAMILIES
from jaxft.models.model import Model
from jaxft.parallel import sharding
from jaxft.param_plan import ParameterPlan
from jaxft.run.loss import make_loss
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import init_state, train_step
from jaxft.tasks.text_classification import TextClassification
from tests.support.families import LABELS, LENGTHS, PLANS, SETTINGS, STAGE, examples, planned
from tests.support.steps import flat, moments


def after_steps(model: Model, params: tree.Params, plan: ParameterPlan, layout: str, mesh: MeshConfig):
    """(losses, state, parameters by name) of three steps on one batch."""
    data = examples(model)
    data = replace(data, columns={"labels": np.arange(len(LENGTHS), dtype=np.int32) % len(LABELS)})
    sampler = make_sampler(data.lengths, batch_size=len(LENGTHS), max_length=24, layout=layout, seed=0, shards=8)
    epoch, devices = sampler.epoch_batches(0), sharding.make_mesh(mesh)
    batch = put(epoch.batch(data, 0), sharding.batch_sharding(devices), epoch.shape(0).rows)
    optimizer, hyper = optim.make_optimizer(SETTINGS, plan, 10), optim.hyperparameters(SETTINGS)
    trained, frozen = (
        sharding.device_put(x, sharding.param_shardings(devices, x))
        for x in plan.split(params, step=STAGE if plan.stages[1:] else 0)
    )
    state = init_state(trained, optimizer, random_keys.root_key(0), hyper)
    task = TextClassification(LABELS)
    step = jax.jit(partial(train_step, loss_fn=make_loss(model, task), optimizer=optimizer))
    losses = []
    with sharding.use_mesh(devices):
        for _ in range(3):
            state, metrics = step(state, Parameters(frozen), batch)
            losses.append(float(metrics["loss"]))
    return losses, state, flat(tree.combine(state.params, frozen))


CASES = [
    pytest.param(family, plan, marks=() if family == "bert" else pytest.mark.slow, id=f"{family}-{plan}")
    for i, family in enumerate(FAMILIES)
    for plan in PLANS
    if plan in ("gradual", ("lora", "dora", "adapters")[i % 3])  # stages and one kind of adapters in each family
]


@pytest.mark.parametrize(("family", "plan"), CASES)
def test_a_plan_holds_in_every_family(family, plan):
    model, params, made = planned(family, PLANS[plan])
    before = flat(params)
    losses, state, after = after_steps(model, params, made, "pad", MeshConfig(1))
    trained = {name for name, x in made.settings.items() if x.trainable and x.unfreeze <= STAGE}
    assert 0 < len(trained) < len(before)
    assert set(tree.all_names(state.params)) == trained
    assert set().union(*moments(state.opt_state)) == trained
    if plan != "gradual":
        assert tree.count(state.params) == sum(row.parameters for row in made.rows if row.setting.trainable)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    # The bias of a key (or of a key of positions) adds the same to all scores of a query: it has no gradient.
    assert {name for name in moved ^ trained if not name.endswith("key.bias")} == set()
    others, _, elsewhere = after_steps(model, params, made, "pack", MeshConfig(data=4, fsdp=2))
    np.testing.assert_allclose(others, losses, rtol=1e-5)
    assert losses[2] != pytest.approx(losses[0], rel=1e-3)  # the steps have an effect
    largest = max(np.abs(after[name] - before[name]).max() for name in trained)
    for name in trained:
        assert np.abs(elsewhere[name] - after[name]).max() <= 1e-4 * largest, name
