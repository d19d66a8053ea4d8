"""LoRA and DoRA in a run: nothing changes at the start, only what the plan says is trained, layouts and devices agree."""

import re
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

import jaxft
from jaxft import cli, optim, runtime, sharding, tree
from jaxft.adapters import add_adapters
from jaxft.config import OptimConfig
from jaxft.errors import UserError
from jaxft.models import adapters
from jaxft.models.build import load
from jaxft.setup import Run, make_loss, make_run
from jaxft.step import init_state, train_step
from jaxft.strategies import make_plan
from tests import test_equivalence, test_freezing, tiny
from tests.test_equivalence import assert_same, gradients, rearranged

LAYERS = 4
INPUTS = {"input_ids": np.array([[2, 9, 8, 7, 3], [2, 5, 6, 3, 0]]), "attention_mask": np.array([[1] * 5, [1] * 4 + [0]])}
ALL = {"preset": "lora", "lora": {"rank": 3, "alpha": 6.0, "targets": "all"}}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("lora") / "model"
    return str(tiny.write_model(folder, labels=tiny.LABELS, num_hidden_layers=LAYERS))


def config_of(base: str, plan: dict, data, output, **sections):
    sections = {"model": tiny.NO_DROPOUT, "data": {"validation": None}, **sections}
    return tiny.run_config(base, data, output, plan=plan, **sections)


def adapted(base: str, plan: dict, **sections):
    """(model, params) with the adapters of a plan."""
    model, params = load(base)
    config = cli.parse({"model": {"path": base}, "plan": plan, **sections}, [], origin="test", prog="test")
    return add_adapters(model, params, config)


def randomised(params, seed: int = 0):
    """B is not zero, and magnitudes are not the columns' lengths."""
    rng = np.random.default_rng(seed)

    def leaf(path, x):
        new = adapters.is_adapter(tree.names(path)[0])
        return (x + rng.normal(0, 0.1, x.shape)).astype(np.float32) if new else x

    return tree.map_with_path(leaf, params)


def modules(params) -> set[str]:
    """Dotted names of the layers that have LoRA."""
    return {name.removesuffix(".lora_a") for name in tree.all_names(params) if name.endswith(".lora_a")}


@pytest.mark.parametrize("plan", [ALL, {"preset": "lora"}], ids=["all", "default"])
def test_it_begins_as_the_base(base, plan):
    model, params = load(base)
    expected = jaxft.forward(model, params, INPUTS)["logits"]
    model, params = adapted(base, plan)
    np.testing.assert_array_equal(jaxft.forward(model, params, INPUTS)["logits"], expected)
    changed = jaxft.forward(model, randomised(params), INPUTS)["logits"]
    assert np.abs(changed - expected).max() > 1e-3


def test_dora_begins_as_the_base(base):
    model, params = load(base)
    expected = jaxft.forward(model, params, INPUTS)["logits"]
    found = jaxft.forward(*adapted(base, {**ALL, "lora": {**ALL["lora"], "dora": True}}), INPUTS)["logits"]
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({}, r"attention\.self\.(query|value)$"),
        ({"lora": {"targets": "all"}}, r"layer\..*"),
        ({"lora": {"targets": ["self.key$", "^encoder.pooler"]}}, r"self\.key$|^encoder\.pooler\.dense$"),
        ({"lora": {"targets": r"layer\.[13]\..*query"}}, r"layer\.[13]\.attention\.self\.query$"),
        ({"rules": [{"pattern": r"layer\.[02]\.", "adapter": False}]}, r"layer\.[13]\.attention\.self\.(query|value)$"),
        (
            {"rules": [{"pattern": r"layer\.2\.output\.dense", "adapter": True}]},
            r"attention\.self\.(query|value)$|layer\.2\.output\.dense$",
        ),
    ],
)
def test_targets(base, plan, expected):
    model, params = adapted(base, {"preset": "lora", **plan})
    dense = adapters.dense_modules(params)
    assert modules(params) == {name for name in dense if name.startswith("encoder.") and re.search(expected, name)}
    assert set(model.adapted.modules) == modules(params)
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), x) for x in (params, model.abstract())]
    assert shapes[0] == shapes[1]


BAD = {
    "no layer": ({"lora": {"targets": "qery"}}, r'targets "qery" matches no dense layer; did you mean'),
    "not dense": ({"lora": {"targets": ["LayerNorm"]}}, r'"LayerNorm" matches no dense layer .*, but .*LayerNorm\.'),
    "an embedding": ({"rules": [{"pattern": "word_embeddings", "adapter": True}]}, "matches no kernel of a dense layer"),
    "rank 0": ({"lora": {"rank": 0}}, r"plan\.lora\.rank is 0"),
    "dropout 1": ({"lora": {"dropout": 1.0}}, r"plan\.lora\.dropout is 1"),
    "all switched off": ({"rules": [{"pattern": "^encoder", "adapter": False}]}, "leave no layer"),
    "both": ({"preset": ["lora", "adapters"]}, "lora or adapters, not both"),
    "neither": ({"preset": "head", "rules": [{"pattern": "query", "adapter": True}]}, "neither lora nor adapters"),
    "a regular expression": ({"lora": {"targets": "("}}, "is not a regular expression"),
    "a preset against it": ({"preset": ["lora", "full"]}, "contradict each other"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_plans(base, case):
    plan, message = BAD[case]

    def attempt() -> None:
        _, params = adapted(base, {"preset": "lora", **plan})
        make_plan(cli.parse({"plan": {"preset": "lora", **plan}}, [], origin="test", prog="test").plan, params, LAYERS)

    with pytest.raises(UserError, match=message):
        attempt()


def test_bad_combinations():
    for section, field in (("model", "from_scratch"), ("checkpoint", "flax")):
        with pytest.raises(UserError, match=f"{section}.{field} is true"):
            cli.parse({"plan": {"preset": "lora"}, section: {field: True}}, [], origin="test", prog="test")


def test_merging(base):
    """Also where layers differ, and with DoRA and the rank-stabilised scale."""
    options = {"rank": 3, "alpha": 2.0, "dora": True, "rank_stabilized": True, "targets": ["query", "inter", "pooler"]}
    rules = [{"pattern": r"layer\.1\.", "adapter": False}]
    model, params = adapted(base, {"preset": "lora", "lora": options, "rules": rules})
    params = randomised(params)
    merged, kernels = jaxft.merge(model, params)
    assert merged.adapted is None
    assert jax.tree.structure(kernels) == jax.tree.structure(load(base)[1])
    expected, found = (jaxft.forward(*x, INPUTS)["logits"] for x in ((model, params), (merged, kernels)))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    with pytest.raises(UserError, match="nothing to merge"):
        jaxft.merge(merged, kernels)


@pytest.fixture(scope="module")
def run(base, tiny_data, tmp_path_factory) -> Run:
    """LoRA with numbers that are not its first, so that A has a gradient."""
    made = make_run(config_of(base, ALL, tiny_data, tmp_path_factory.mktemp("run") / "run"))
    return replace(made, params=randomised(made.params))


@pytest.fixture(scope="module")
def reference(run):
    return gradients(rearranged(run, "pad"))


@pytest.mark.parametrize("way", ["pack", "5 micro-batches padded", "data 4, fsdp 2"])
def test_gradients(run, reference, way):
    """Packed = padded = micro-batched = 8 devices; and only LoRA and the head have any."""
    assert all(set(grads) == trainable(run.params) for _, grads in reference)
    assert_same(rearranged(run, **test_equivalence.WAYS[way]), reference)


def trainable(params) -> set[str]:
    return {name for name in tree.all_names(params) if name.startswith("heads.") or ".lora_" in name}


def test_only_lora_and_the_head_move(run):
    before = test_freezing.flat(run.params)
    state, frozen = test_freezing.fresh_state(run)
    assert set(tree.all_names(state.params)) == trainable(run.params)
    assert test_freezing.moments(state.opt_state) == [trainable(run.params)] * 2
    epoch = run.planner.plan_epoch(0)
    step = jax.jit(partial(train_step, loss_fn=test_freezing.run_loss(run), optimizer=test_freezing.run_optimizer(run)))
    for number in range(2):
        batch = epoch.batch(run.data["train"].examples, number)
        rows = epoch.shape(number).rows
        state, _ = step(state, frozen, test_freezing.put(batch, sharding.batch_sharding(run.mesh), rows))
    after = test_freezing.flat(tree.combine(state.params, frozen))
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == trainable(run.params)
    counted = sum(row.parameters for row in run.plan.rows if row.setting.trainable)
    assert counted == tree.count(state.params)


class Costs(test_freezing.Costs):
    """FLOPs and memory of a step with LoRA on a BERT whose matrix products dominate."""

    def compiled(self, plan: dict, *, clip: float | None = 1.0, parts: int = 1):
        config = cli.parse({"model": {"path": "base"}, "plan": plan}, [], origin="test", prog="test")
        model, params = self.model, tiny.random_params(self.model)
        model, params = add_adapters(model, params, config)
        made = make_plan(config.plan, params, test_freezing.DEPTH)
        settings = OptimConfig(clip=clip)
        optimizer, hyper = optim.make_optimizer(settings, made, 10), optim.hyperparameters(settings)
        trainable, frozen = made.split(model.abstract())
        state = jax.eval_shape(lambda p: init_state(p, optimizer, runtime.root_key(0), hyper), trainable)
        step = jax.jit(partial(train_step, loss_fn=make_loss(model, self.task), optimizer=optimizer), donate_argnums=0)
        return step.lower(state, frozen, self.batch(test_freezing.ROWS, parts)).compile()


@pytest.mark.parametrize(("clip", "parts"), [(1.0, 1), (None, 2)])
def test_flops(clip, parts):
    """LoRA on all dense layers: forward, backward through activations alone, and little more."""
    costs = Costs()
    found = costs.compiled(ALL, clip=clip, parts=parts).cost_analysis()["flops"]
    forward = costs.forward(test_freezing.ROWS // parts)  # the loop over micro-batches is counted once
    assert 1.7 * forward < found <= 2.2 * forward


def test_memory():
    """What falls is what the plan says: moments, and the room of gradients and new parameters."""
    costs = Costs()
    full, lora = (costs.compiled(plan) for plan in ({"preset": "full"}, ALL))
    parameters = tree.count(costs.params)
    trained = tree.count(costs.compiled) if False else None
    assert parameters
    assert trained is None
    print(full.memory_analysis(), lora.memory_analysis())
