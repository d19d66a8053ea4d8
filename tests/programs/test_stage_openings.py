"""When a stage opens, parameters, moments and average of earlier ones stay bit for bit, and new ones start from zero."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import optim
from jaxft.config import MeshConfig, OptimConfig, PlanConfig, RuleConfig
from jaxft.core import random_keys, tree
from jaxft.parallel import sharding
from jaxft.param_plan import make_plan
from jaxft.step.parameters import Parameters
from jaxft.step.stages import later_stages, open_stage
from jaxft.step.train_step import init_state
from tests.support.parameters import LAYERS, PARAMS


def test_a_state_grows_and_loses_nothing():
    rules = [RuleConfig("words", unfreeze=2), RuleConfig("dense", unfreeze=1)]
    plan = make_plan(PlanConfig(rules=rules), PARAMS, LAYERS, total_steps=10)
    assert plan.stages == (0, 1, 2)
    mesh, settings = sharding.make_mesh(MeshConfig(1)), OptimConfig()
    optimizer, hyper = optim.make_optimizer(settings, plan, 10), optim.hyperparameters(settings)
    trained, frozen = (sharding.device_put(x, sharding.param_shardings(mesh, x)) for x in plan.split(PARAMS, step=0))
    rest = Parameters(frozen)
    state = init_state(trained, optimizer, random_keys.root_key(0), hyper, average=True)
    key = random_keys.root_key(1)

    def used(x):  # as after some steps: nothing is zero
        return x + 1 if x.dtype == jnp.int32 else x + jax.random.normal(key, x.shape)

    state = replace(state, **{name: jax.tree.map(used, getattr(state, name)) for name in ("opt_state", "average", "step")})
    everywhere = sharding.replicated(mesh)
    state = jax.tree.map(lambda x: jax.device_put(x, everywhere), state)
    for stage in later_stages(plan, optimizer, mesh, state, rest, plan.stages[1:]):
        before = dict(jax.tree_util.tree_leaves_with_path(jax.tree.map(np.array, replace(state, key=None))))
        state, rest = open_stage(plan, stage, state, rest)
        after = dict(jax.tree_util.tree_leaves_with_path(jax.tree.map(np.array, replace(state, key=None))))
        assert before.keys() < after.keys()
        for path, x in before.items():
            np.testing.assert_array_equal(after[path], x, err_msg=str(path))
        for path in after.keys() - before.keys():
            if "opt_state" in str(path):
                assert not after[path].any(), path
        begins = {name for name, x in plan.settings.items() if x.unfreeze <= stage.start}
        assert set(tree.all_names(state.params)) == set(tree.all_names(state.average)) == begins
    assert not rest.model
    for name, x in tree.unstack(state.params).items():
        np.testing.assert_array_equal(x, tree.unstack(PARAMS)[name])
