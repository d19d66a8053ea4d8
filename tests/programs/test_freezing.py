"""Frozen parameters stay bit for bit, cost nothing and have no optimizer state; trainable ones follow their row."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import optim
from jaxft.config import OptimConfig, PlanConfig, RuleConfig
from jaxft.core import random_keys, tree
from jaxft.data.batching.prefetch import put
from jaxft.parallel import sharding
from jaxft.param_plan import make_plan
from jaxft.run.loss import run_loss
from jaxft.run.setup import Run, make_run
from jaxft.run.state import fresh_state, run_optimizer
from jaxft.step.train_step import init_state, train_step
from tests.support import tiny
from tests.support.costs import DEPTH, LENGTH, ROWS, Costs
from tests.support.steps import flat, moments

LAYERS = 4
TRAINED, FROZEN = {"trainable": True}, {"trainable": False}
PLANS = {
    "full": {"preset": "full"},
    "head": {"preset": "head"},
    "last layer": {"preset": "last_n", "n": 1},
    "embeddings frozen": {"preset": "freeze_embeddings"},
    "biases": {"preset": "bias"},
    "norms": {"preset": "norms"},
    "rules alone": {"preset": "none", "rules": [{"pattern": r"query|^heads", **TRAINED}, {"pattern": "", **FROZEN}]},
    "last layer, and all norms": {"preset": ["last_n", "norms", "layerwise_decay"], "n": 1, "layer_decay": 0.5},
    "a layer in the middle": {"preset": "head", "rules": [{"pattern": r"layer\.1\.", **TRAINED}]},
    "all but a layer": {"preset": "full", "rules": [{"pattern": r"layer\.2\.", **FROZEN}]},
}
# The gradient of a key's bias is zero: it adds the same number to all scores of a query.
UNMOVED = "attention.self.key.bias"


@pytest.fixture(scope="module")
def base(tiny_data, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("freezing")
    model = tiny.write_model(folder / "model", labels=tiny.LABELS, num_hidden_layers=LAYERS)
    sections = {"model": tiny.NO_DROPOUT, "data": {"validation": None}, "optim": {"warmup": 0, "learning_rate": 1e-3}}
    return make_run(tiny.run_config(model, tiny_data, folder / "run", **sections))


def with_plan(run: Run, preset: dict) -> Run:
    config = PlanConfig(**{**preset, "rules": [RuleConfig(**rule) for rule in preset.get("rules", [])]})
    return replace(run, plan=make_plan(config, run.params, LAYERS))


def expected_trainable(name: str, plan: str) -> bool:
    head, layer = name.startswith("heads."), name.partition("layer.")[2].partition(".")[0]
    return {
        "full": True,
        "head": head,
        "last layer": head or "pooler" in name or layer == "3",
        "embeddings frozen": "embeddings" not in name,
        "biases": head or name.endswith(".bias"),
        "norms": head or "LayerNorm" in name,
        "rules alone": head or "query" in name,
        "last layer, and all norms": head or "pooler" in name or layer == "3" or "LayerNorm" in name,
        "a layer in the middle": head or layer == "1",
        "all but a layer": layer != "2",
    }[plan]


@pytest.mark.parametrize("plan", PLANS)
def test_only_trainable_parameters_change(base, plan):
    run = with_plan(base, PLANS[plan])
    before = flat(run.params)
    state, frozen = fresh_state(run)
    trainable = {name for name in before if expected_trainable(name, plan)}
    printed = sum(row.parameters for row in run.plan.rows if row.setting.trainable)
    assert printed == sum(before[name].size for name in trainable) == tree.count(state.params)
    assert set(tree.all_names(state.params)) == trainable
    assert moments(state.opt_state) == [trainable, trainable]
    epoch = run.sampler.epoch_batches(0)
    step = jax.jit(partial(train_step, loss_fn=run_loss(run), optimizer=run_optimizer(run)))
    for number in range(3):
        batch = epoch.batch(run.data["train"].examples, number)
        state, metrics = step(state, frozen, put(batch, sharding.batch_sharding(run.mesh), epoch.shape(number).rows))
        assert np.isfinite(metrics["loss"])
    after = flat(frozen.combined(state.params).model)
    assert after.keys() == before.keys()
    for name, x in after.items():
        if name not in trainable:
            np.testing.assert_array_equal(x, before[name], err_msg=name)
        elif UNMOVED not in name:
            assert not np.array_equal(x, before[name]), name


def updates(run: Run, settings: OptimConfig, gradient: float) -> dict[str, np.ndarray]:
    """The first update by parameter name for a constant gradient."""
    optimizer = optim.make_optimizer(settings, run.plan, 10)
    params, _ = run.plan.split(jax.tree.map(jnp.asarray, run.params))
    hyper = optim.hyperparameters(settings)
    state = init_state(params, optimizer, random_keys.root_key(0), hyper)
    gradients = jax.tree.map(lambda x: jnp.full_like(x, gradient), params)
    found, _ = jax.jit(optimizer.build(hyper).update)(gradients, state.opt_state, params)
    return flat(found)


RULES = {
    "preset": "full",
    "rules": [
        {"pattern": r"^encoder\.embeddings\.", **FROZEN},
        {"pattern": r"layer\.0\.", "learning_rate": 0.25},
        {"pattern": r"layer\.1\..*kernel$", "weight_decay": False},
        {"pattern": r"layer\.1\..*bias$", "weight_decay": True},
        {"pattern": r"^encoder\.pooler\.", "learning_rate": 0.0},
    ],
}


def test_decay_acts_on_its_rows_only(base):
    """With gradients of zero every change is due to decay."""
    run = with_plan(base, RULES)
    params = flat(run.params)
    found = updates(run, OptimConfig(learning_rate=0.1, weight_decay=0.5, warmup=0, schedule="constant"), 0.0)
    assert not any("embeddings" in name for name in found)
    for name, update in found.items():
        kind, layer = name.rsplit(".", 1)[1], name.partition("layer.")[2].partition(".")[0]
        decayed = {"1": kind == "bias"}.get(layer, kind == "kernel")
        rate = 0.25 if layer == "0" else 0.0 if "pooler" in name else 1.0
        np.testing.assert_allclose(update, -0.1 * rate * 0.5 * decayed * params[name], rtol=1e-6, err_msg=name)


def test_multipliers_scale_the_first_update(base):
    """Adam's first update is the learning rate whatever the gradient's size."""
    run = with_plan(base, RULES)
    found = updates(run, OptimConfig(learning_rate=0.1, weight_decay=0.0, warmup=0, schedule="constant", clip=None), 3.0)
    for name, update in found.items():
        rate = 0.25 if ".layer.0." in name else 0.0 if "pooler" in name else 1.0
        np.testing.assert_allclose(update, -0.1 * rate, rtol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def costs() -> Costs:
    return Costs()


@pytest.fixture(scope="module")
def forward(costs) -> float:
    found = costs.forward(ROWS)
    tokens, sizes = ROWS * LENGTH, costs.model.encoder.config
    width = sizes.hidden_size
    products = DEPTH * 2 * tokens * (4 * width**2 + 2 * width * sizes.intermediate_size + 2 * LENGTH * width)
    assert products < found < 1.3 * products
    return found


@pytest.mark.parametrize("parts", [1, 2])
def test_training_a_head_costs_one_forward_pass(costs, forward, parts):
    assert costs.train({"preset": "head"}, parts=parts) <= 1.05 * (forward if parts == 1 else costs.forward(ROWS // parts))


@pytest.mark.parametrize(("trained", "clip", "parts"), [(1, 1.0, 1), (2, None, 1), (3, 1.0, 2), (DEPTH, 1.0, 1)])
def test_training_some_layers_costs_their_share(costs, forward, trained, clip, parts):
    """Backward is twice forward, and only for the layers from the lowest trainable one up."""
    found = costs.train({"preset": "last_n", "n": trained}, clip=clip, parts=parts)
    # The compiler counts the body of the loop over micro-batches once.
    bound = (1 + 2 * trained / DEPTH) * (forward if parts == 1 else costs.forward(ROWS // parts))
    assert 0.8 * bound < found <= 1.05 * bound


@pytest.mark.parametrize(("step", "trained", "parts"), [(0, 0, 1), (5, 2, 2), (14, 4, 1), (15, DEPTH, 1)])
def test_a_stage_costs_the_share_of_unfrozen_layers(costs, forward, step, trained, parts):
    """Two layers every five steps, and the embeddings with the last ones."""
    plan = {"preset": ["gradual", "layerwise_decay"], "unfreeze_every": 5, "unfreeze_layers": 2}
    found = costs.train(plan, step=step, parts=parts)
    bound = (1 + 2 * trained / DEPTH) * (forward if parts == 1 else costs.forward(ROWS // parts))
    assert 0.8 * bound < found <= 1.05 * bound
