"""Every optimizer: layers within stacks, the plan's decay, rates and schedules, traced numbers, devices, checkpoints."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft import optim
from jaxft.config import MeshConfig, OptimConfig, PlanConfig, RegularizationConfig, RuleConfig
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.optim.named_optimizers import NAMED
from jaxft.parallel import sharding
from jaxft.param_plan import make_plan
from jaxft.preflight import costs
from jaxft.run.setup import make_run
from jaxft.run.state import fresh_state, model_params
from jaxft.training.checkpoint import Checkpoints
from jaxft.training.early_stopping import EvaluationState
from tests.support import tiny
from tests.support.parameters import GRADIENTS, LAYERS, PARAMS

# They use norms of tensors (lars, adafactor) or of all tensors together (prodigy), or are elementwise.
OPTAX = ["optax.lars", "optax.adafactor", "optax.prodigy", "optax.nadamw"]
NAMES = [*NAMED, *OPTAX]
CONSTANT = {"warmup": 0, "schedule": "constant", "clip": None, "learning_rate": 0.1}


def unstacked(params):
    """The same tree with one subtree per layer."""
    return tree.unflatten({tuple(name.split(".")): x for name, x in tree.unstack(params).items()})


def plan_of(*rules: RuleConfig):
    return make_plan(PlanConfig(rules=list(rules)), PARAMS, LAYERS)


def train_steps(config: OptimConfig, plan, params=PARAMS, gradients=GRADIENTS, place=None, total=10):
    """(parameters after some steps by dotted name, optimizer state).

    Where `place` puts arrays on several devices, a step is one program: hundreds of small ones, of which each waits for all
    devices, can block one another for ever in the few threads of XLA's CPU client.
    """
    optimizer, hyper = optim.make_optimizer(config, plan, total), optim.hyperparameters(config)
    transform = optimizer.build(hyper)
    state = transform.init(params)

    def step(params, state, gradient):
        updates, state = transform.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    if place:
        params, state, step = place(params), place(state), jax.jit(step)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    return tree.unstack(jax.tree.map(np.asarray, params)), state


def assert_close(found, expected, tolerance=1e-5):
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x, rtol=tolerance, atol=tolerance * np.abs(x).max(), err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_a_stack_are_updated_like_single_layers(name):
    config = OptimConfig(name=name, weight_decay=0.1, **CONSTANT)
    found, _ = train_steps(config, plan_of())
    before = tree.unstack(PARAMS)
    assert all(np.abs(x - before[n]).max() > 0 for n, x in found.items())
    expected, _ = train_steps(config, plan_of(), unstacked(PARAMS), [unstacked(g) for g in GRADIENTS])
    assert_close(found, expected)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "optax.prodigy"])  # 0 / 0 at a zero gradient
def test_the_plan_decides_rates_schedules_and_decay(name):
    """Each column alone, for single layers of a stack that is not cut."""
    config = OptimConfig(name=name, weight_decay=0.5, **CONSTANT)
    before, plan = tree.unstack(PARAMS), plan_of(RuleConfig(r"layer\.1\.", weight_decay=False))
    plan = replace(
        plan, settings={**plan.settings, "heads.main.bias": replace(plan.settings["heads.main.bias"], weight_decay=True)}
    )
    nothing = jax.tree.map(jnp.zeros_like, PARAMS)
    without, _ = train_steps(config, plan, gradients=[nothing])
    for key, x in without.items():
        decayed = (key.endswith(("kernel", "embedding")) and ".1." not in key) or key == "heads.main.bias"
        assert decayed == (not np.array_equal(x, before[key])), key

    plain, _ = train_steps(config, plan_of(), gradients=GRADIENTS[:1])
    rates = {"heads": 3.0, ".1.": 0.25, "embeddings": 0.0}
    plan = plan_of(*(RuleConfig(key.replace(".", r"\."), learning_rate=rate) for key, rate in rates.items()))
    found, _ = train_steps(config, plan, gradients=GRADIENTS[:1])
    expected = {}
    for key, x in plain.items():
        rate = next((rate for part, rate in rates.items() if part in key), 1.0)
        expected[key] = before[key] + rate * (x - before[key])
    assert_close(found, expected)

    settings = {key: replace(x, schedule="linear" if ".2." in key else None) for key, x in plan_of().settings.items()}
    third, _ = train_steps(config, replace(plan_of(), settings=settings), gradients=GRADIENTS[:1], total=3)
    assert_close(third, plain)  # no step is done yet, so both rates are at their peak
    steps = [train_steps(config, replace(plan_of(), settings=settings), gradients=GRADIENTS[:n], total=2)[0] for n in (2, 3)]
    for key in before:
        assert (".2." in key) == np.array_equal(steps[0][key], steps[1][key]), key  # after two of two steps linear is at 0


def test_weight_decay_of_a_parameter_may_be_a_number():
    plan = plan_of()
    settings = {key: replace(x, weight_decay=0.25 if ".1." in key else x.weight_decay) for key, x in plan.settings.items()}
    nothing = jax.tree.map(jnp.zeros_like, PARAMS)
    found, _ = train_steps(OptimConfig(weight_decay=0.5, **CONSTANT), replace(plan, settings=settings), gradients=[nothing])
    for key, x in tree.unstack(PARAMS).items():
        decay = 0.25 if ".1." in key else 0.5 if key.endswith(("kernel", "embedding")) else 0.0
        np.testing.assert_allclose(found[key], x * (1 - 0.1 * decay), rtol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_learning_rate_and_decay_may_be_vmapped(name):
    config, plan = OptimConfig(name=name, **CONSTANT), plan_of()
    optimizer, hyper = optim.make_optimizer(config, plan, 10), optim.hyperparameters(config)

    def once(rate, decay):
        transform = optimizer.build({**hyper, "learning_rate": rate, "weight_decay": decay})
        return transform.update(GRADIENTS[0], transform.init(PARAMS), PARAMS)[0]

    found = jax.jit(jax.vmap(once))(jnp.asarray([0.1, 0.2]), jnp.asarray([0.0, 0.5]))
    second, _ = train_steps(replace(config, learning_rate=0.2, weight_decay=0.5), plan, gradients=GRADIENTS[:1])
    mapped = tree.unstack(jax.tree.map(lambda p, u: np.asarray(p + u[1]), PARAMS, found))
    assert_close(mapped, second)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lamb", "muon", "optax.prodigy"])
def test_updates_on_eight_devices_are_those_of_one(name):
    """State with a parameter's shape is split as the parameter is."""
    mesh = sharding.make_mesh(MeshConfig(2, 4))
    params = sharding.param_shardings(mesh, PARAMS)

    def place(x):
        if isinstance(x, dict):
            return jax.device_put(x, params)
        return jax.device_put(x, sharding.optimizer_shardings(mesh, x, PARAMS))

    config = OptimConfig(name=name, weight_decay=0.1, **{**CONSTANT, "clip": 1.0})
    gradients = [jax.device_put(g, params) for g in GRADIENTS]
    found, _ = train_steps(config, plan_of(), gradients=gradients, place=place)
    assert_close(found, train_steps(config, plan_of())[0])
    sizes = {x.shape for path, x in tree.flatten(PARAMS).items() if path[-1] in ("kernel", "embedding")}
    sizes |= {shape[1:] for shape in sizes if len(shape) == 3}
    initial = place(optim.make_optimizer(config, plan_of(), 10).build(optim.hyperparameters(config)).init(PARAMS))
    split = [x for x in jax.tree.leaves(initial) if x.shape in sizes]
    assert bool(split) == (name != "adafactor")  # its moments are vectors
    for x in split:
        assert {shard.data.size * 4 for shard in x.addressable_shards} == {x.size}


def test_adafactor_keeps_vectors_of_matrices():
    _, state = train_steps(OptimConfig(name="adafactor", **CONSTANT), plan_of())
    assert max(x.size for x in jax.tree.leaves(state)) == LAYERS * 16 < tree.count(PARAMS) / 10


def test_berts_own_adam_has_no_bias_correction():
    """google-research/bert: `AdamWeightDecayOptimizer.apply_gradients`, in numpy."""
    config = OptimConfig(name="bert_adam", weight_decay=0.1, **CONSTANT)
    found, _ = train_steps(config, plan_of())
    gradients = [tree.unstack(g) for g in GRADIENTS]
    for key, start in tree.unstack(jax.tree.map(np.asarray, PARAMS)).items():
        p = start
        m, v = np.zeros_like(p), np.zeros_like(p)
        for gradient in gradients:
            g = np.asarray(gradient[key])
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            decay = 0.1 * p if key.endswith(("kernel", "embedding")) else 0.0
            p = p - 0.1 * (m / (np.sqrt(v) + 1e-6) + decay)
        np.testing.assert_allclose(found[key], p, rtol=2e-5, atol=1e-6, err_msg=key)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("lamb", lambda mask: optax.lamb(0.1, weight_decay=0.2, mask=mask)),
        ("lion", lambda mask: optax.lion(0.1, weight_decay=0.2, mask=mask)),
        (
            "optax.radam",
            lambda mask: optax.chain(optax.scale_by_radam(), optax.add_decayed_weights(0.2, mask), optax.scale(-0.1)),
        ),
    ],
)
def test_updates_are_those_of_optax(name, oracle):
    config = OptimConfig(name=name, weight_decay=0.2, **CONSTANT)
    params, plan = tree.unstack(PARAMS), plan_of()
    transform = oracle({key: bool(setting.weight_decay) for key, setting in plan.settings.items()})
    state = transform.init(params)
    for gradient in GRADIENTS:
        updates, state = transform.update(tree.unstack(gradient), state, params)
        params = optax.apply_updates(params, updates)
    assert_close(train_steps(config, plan)[0], params)


def test_muon_orthogonalises_the_kernels_of_the_encoder():
    found, _ = train_steps(OptimConfig(name="muon", weight_decay=0.0, **CONSTANT), plan_of())
    adam, _ = train_steps(OptimConfig(name="adamw", weight_decay=0.0, **CONSTANT), plan_of())
    params = tree.unstack(PARAMS)
    kernels = {key: x for key, x in params.items() if ".layer." in key and key.endswith("kernel")}
    transform = optax.contrib.muon(0.1, consistent_rms=0.2)
    state, expected = transform.init(kernels), kernels
    for gradient in GRADIENTS:
        single = tree.unstack(gradient)
        updates, state = transform.update({key: single[key] for key in kernels}, state, expected)
        expected = optax.apply_updates(expected, updates)
    assert len(kernels) == LAYERS
    assert_close({key: found[key] for key in kernels}, expected, 1e-4)
    assert_close(*({key: x[key] for key in params if key not in kernels} for x in (found, adam)))


ERRORS = [
    ({"name": "adamm"}, ['"adamm"', 'did you mean "adam', "adafactor"]),
    ({"name": "optax.adamz"}, ['"optax.adamz"', 'did you mean "adam']),
    ({"name": "optax.lbfgs"}, ["optax.lbfgs", "gradients alone"]),
    ({"name": "optax.schedule_free_adamw"}, ["no such optimizer"]),
    ({"name": "sgd", "arguments": {"momentun": 0.9}}, ["sgd", '"momentun"', 'did you mean "momentum"']),
    ({"name": "sgd", "arguments": {"momentum": "high"}}, ["momentum is high", "number"]),
    ({"name": "sgd", "arguments": {"nesterov": 1}}, ["nesterov is 1", "true or false"]),
    ({"name": "sgd", "beta1": 0.5}, ["optim.beta1 is 0.5", "sgd"]),
    ({"name": "adamw", "arguments": {"beta1": 0.5}}, ["optim.beta1"]),
    ({"name": "optax.adamw", "arguments": {"weight_decay": 0.1}}, ["optim.weight_decay"]),
    ({"name": "optax.adamw", "arguments": {"b3": 0.1}}, ['"b3"', "b1"]),
    ({"name": "optax.adamw", "arguments": {"b1": "x"}}, ["optax.adamw", "{'b1': 'x'}"]),
    ({"name": "optax.adamw", "epsilon": 1e-6}, ["optim.epsilon", "own names"]),
]


@pytest.mark.parametrize(("changes", "words"), ERRORS)
def test_an_unknown_optimizer_or_argument_is_refused(changes, words):
    with pytest.raises(UserError) as error:
        optim.check_optimizer(OptimConfig(**changes))
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_train_checks_the_optimizers_arguments(train_fails):
    train_fails({"optim.name": "optax.sgd", "optim.arguments": "{momentum: 0.9, nestero: true}"}, '"nestero"', "nesterov")


@pytest.fixture(scope="module")
def run(classifier, tiny_data, tmp_path_factory):
    config = tiny.run_config(classifier, tiny_data, tmp_path_factory.mktemp("runs") / "run", mesh={"data": 2, "fsdp": 4})
    return make_run(config)


@pytest.mark.parametrize("name", ["adafactor", "muon", "optax.prodigy"])
def test_checkpoints_restore_the_optimizer_state(run, tmp_path, name):
    """Also state without a parameter's shape, of some parameters only, or with dotted names; and the moving average."""
    averaged = RegularizationConfig(ema=0.9 if name == "muon" else 0.0)
    run = replace(run, config=replace(run.config, optim=OptimConfig(name=name), regularization=averaged))
    fresh, frozen = fresh_state(run)
    parts = {part: getattr(fresh, part) for part in ("params", "opt_state", "average", "step")}
    trained = jax.tree.map(lambda x: x + jnp.ones_like(x), parts)
    trained["average"] = jax.tree.map(lambda x: 2 * x, trained["average"])
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(replace(fresh, **trained), EvaluationState())
    checkpoints.wait()
    restored, _ = checkpoints.restore(1, fresh)
    checkpoints.close()
    for x, y in zip(*(jax.tree.leaves({part: x[part] for part in parts}) for x in (vars(restored), trained)), strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.sharding == y.sharding
    evaluated = model_params(restored, frozen)  # what is evaluated and exported
    jax.tree.map(np.testing.assert_array_equal, evaluated.model, trained["average"] or trained["params"])


@pytest.mark.parametrize("name", ["adamw", "muon", "adafactor", "lion"])
def test_the_plan_computes_the_memory_of_the_state(run, name):
    """Muon has one moment of kernels and two of other parameters."""
    run = replace(run, config=replace(run.config, optim=OptimConfig(name=name)))
    state, _ = fresh_state(run)
    sizes = [x.size * x.dtype.itemsize for x in jax.tree.leaves(state.opt_state) if x.ndim]
    assert sum(costs.optimizer_memory(run)) == sum(sizes)
