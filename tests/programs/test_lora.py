"""LoRA and DoRA in a run: nothing changes at the start, only what the plan says is trained, layouts and devices agree."""

import re
import shutil
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft
from jaxft import evaluate, export, optim, predict
from jaxft.config import OptimConfig, cli
from jaxft.core import random_keys, tree
from jaxft.core.errors import UserError
from jaxft.data.batching.prefetch import put
from jaxft.models.encoder import adapters
from jaxft.models.encoder.adapters import Lora
from jaxft.models.encoder.layers import Dense
from jaxft.models.load_save import load
from jaxft.models.weights.tensor_files import open_weights
from jaxft.parallel import sharding
from jaxft.param_plan import make_plan
from jaxft.run.adapter_targets import add_adapters
from jaxft.run.loss import make_loss, run_loss
from jaxft.run.setup import Run, make_run
from jaxft.run.state import fresh_state, run_optimizer
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import init_state, train_step
from jaxft.train import train
from tests.support import costs, read_jsonl, tiny
from tests.support.damage import rewrite
from tests.support.lora import modules, randomised, trainable
from tests.support.resuming import assert_resume_is_exact
from tests.support.steps import LAYOUTS, assert_same, flat, gradients, moments, rearranged

LAYERS = 4
INPUTS = {"input_ids": np.array([[2, 9, 8, 7, 3], [2, 5, 6, 3, 0]]), "attention_mask": np.array([[1] * 5, [1] * 4 + [0]])}
ALL = {"preset": "lora", "lora": {"rank": 3, "alpha": 6.0, "targets": "all"}}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("lora") / "model"
    return str(tiny.write_model(folder, labels=tiny.LABELS, num_hidden_layers=LAYERS))


def config_of(base: str, plan: dict, data, output, /, **sections):
    sections = {"model": tiny.NO_DROPOUT, "data": {"validation": None}, **sections}
    return tiny.run_config(base, data, output, plan=plan, **sections)


def adapted(base: str, plan: dict, **sections):
    """(model, params) with the adapters of a plan."""
    model, params = load(base)
    config = cli.parse({"model": {"path": base}, "plan": plan, **sections}, [], origin="test")
    return add_adapters(model, params, config)


@pytest.mark.parametrize("plan", [ALL, {"preset": "lora"}], ids=["all", "default"])
def test_lora_begins_as_the_base(base, plan):
    """Bit for bit when each operation runs alone: two programs may be fused, and so rounded, differently."""
    model, params = load(base)
    with jax.disable_jit():
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
        ({"lora": {"targets": ["all", "^encoder.pooler"]}}, r"layer\..*|^encoder\.pooler\.dense$"),
        ({"lora": {"targets": ["self.key$", "^encoder.pooler"]}}, r"self\.key$|^encoder\.pooler\.dense$"),
        ({"lora": {"targets": r"layer\.[13]\..*query"}}, r"layer\.[13]\.attention\.self\.query$"),
        ({"rules": [{"pattern": r"layer\.[02]\.", "adapter": False}]}, r"layer\.[13]\.attention\.self\.(query|value)$"),
        (
            {"rules": [{"pattern": r"layer\.2\.output\.dense", "adapter": True}]},
            r"attention\.self\.(query|value)$|layer\.2\.output\.dense$",
        ),
    ],
)
def test_targets_choose_the_adapted_layers(base, plan, expected):
    model, params = adapted(base, {"preset": "lora", **plan})
    dense = adapters.dense_modules(params)
    assert modules(params) == {name for name in dense if name.startswith("encoder.") and re.search(expected, name)}
    assert set(model.adapted.modules) == modules(params)
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), x) for x in (params, model.abstract())]
    assert shapes[0] == shapes[1]


def test_dora_in_bfloat16_sees_small_changes_of_magnitude():
    layer = Dense(64, jax.nn.initializers.normal(), use_bias=False, lora=Lora(2, 2.0, dora=True))
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=size).astype(np.float32) for name, size in (("kernel", (64, 64)), ("lora_a", (64, 2)))}
    params["lora_b"] = np.zeros((2, 64), np.float32)
    x = jnp.asarray(rng.normal(size=(64, 64)), jnp.bfloat16)

    def mean(factor: float) -> float:
        magnitude = np.linalg.norm(params["kernel"], axis=0) * np.float32(factor)
        return float(jnp.abs(layer.apply({"params": {**params, "magnitude": magnitude}}, x)).astype(jnp.float32).mean())

    assert mean(1.003) / mean(1.0) - 1 == pytest.approx(0.003, rel=0.3)


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
def test_a_bad_plan_is_refused(base, case):
    plan, message = BAD[case]

    def attempt() -> None:
        _, params = adapted(base, {"preset": "lora", **plan})
        make_plan(cli.parse({"plan": {"preset": "lora", **plan}}, [], origin="test").plan, params, LAYERS)

    with pytest.raises(UserError, match=message):
        attempt()


def test_lora_excludes_from_scratch_and_flax():
    for section, field in (("model", "from_scratch"), ("checkpoint", "flax")):
        with pytest.raises(UserError, match=f"{section}.{field} is true"):
            cli.parse({"plan": {"preset": "lora"}, section: {field: True}}, [], origin="test")


def test_a_merged_adapter_gives_the_same_logits(base):
    """Also if layers differ, with DoRA and the rank-stabilised scale."""
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
    """A run whose LoRA parameters are not the initial ones, so that A has a gradient."""
    made = make_run(config_of(base, ALL, tiny_data, tmp_path_factory.mktemp("run") / "run"))
    return replace(made, params=randomised(made.params))


@pytest.fixture(scope="module")
def reference(run):
    return gradients(rearranged(run, "pad"))


@pytest.mark.parametrize("layout", ["pack", "5 micro-batches padded", "data 4, fsdp 2"])
def test_gradients_do_not_depend_on_the_layout(run, reference, layout):
    """Packed = padded = micro-batched = 8 devices; only LoRA and the head have gradients."""
    assert all(set(grads) == trainable(run.params) for _, grads in reference)
    assert_same(rearranged(run, **LAYOUTS[layout]), reference)


def test_only_lora_and_the_head_move(run):
    before = flat(run.params)
    state, frozen = fresh_state(run)
    assert set(tree.all_names(state.params)) == trainable(run.params)
    assert moments(state.opt_state) == [trainable(run.params)] * 2
    epoch = run.sampler.epoch_batches(0)
    step = jax.jit(partial(train_step, loss_fn=run_loss(run), optimizer=run_optimizer(run)))
    for number in range(2):
        batch = epoch.batch(run.data["train"].examples, number)
        rows = epoch.shape(number).rows
        state, _ = step(state, frozen, put(batch, sharding.batch_sharding(run.mesh), rows))
    after = flat(frozen.combined(state.params).model)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == trainable(run.params)
    counted = sum(row.parameters for row in run.plan.rows if row.setting.trainable)
    assert counted == tree.count(state.params)


WIDE = costs.CONFIG | {"hidden_size": 256, "num_hidden_layers": 2, "intermediate_size": 1024}


class Costs(costs.Costs):
    """FLOPs and memory of a step of a BERT so wide that a rank of 3 is small, as in practice."""

    def compiled(self, plan: dict, *, clip: float | None = 1.0, parts: int = 1):
        """(the compiled step, number of trained scalars, number of all scalars)."""
        config = cli.parse({"model": {"path": "base"}, "plan": plan}, [], origin="test")
        model, params = add_adapters(self.model, tiny.random_params(self.model), config)
        made = make_plan(config.plan, params, WIDE["num_hidden_layers"])
        settings = OptimConfig(clip=clip)
        optimizer, hyper = optim.make_optimizer(settings, made, 10), optim.hyperparameters(settings)
        trained, frozen = made.split(model.abstract())
        state = jax.eval_shape(lambda p: init_state(p, optimizer, random_keys.root_key(0), hyper), trained)
        step = jax.jit(partial(train_step, loss_fn=make_loss(model, self.task), optimizer=optimizer), donate_argnums=0)
        compiled = step.lower(state, Parameters(frozen), self.batch(costs.ROWS, parts)).compile()
        return compiled, tree.count(trained), tree.count(params)


@pytest.mark.parametrize(("clip", "parts"), [(None, 1), (1.0, 2)])
def test_flops_and_memory_of_a_step(clip, parts):
    """LoRA on all dense layers: a forward pass, a backward pass for activations, little more; moments of LoRA alone."""
    wide = Costs(WIDE)
    compiled, trained, parameters = wide.compiled(ALL, clip=clip, parts=parts)
    found = compiled.cost_analysis()["flops"]
    forward = wide.forward(costs.ROWS // parts)  # the loop over micro-batches is counted once
    assert 1.7 * forward < found <= 2.2 * forward
    assert trained < 0.05 * parameters
    assert compiled.memory_analysis().argument_size_in_bytes == pytest.approx(4 * (parameters + 2 * trained), rel=0.01)


def test_resuming_with_dropout_in_lora_is_exact(tiny_model, tiny_data, tmp_path):
    """The run's model/ is an adapter directory without the kernels of the base."""
    plan = {"preset": "lora", "lora": {"rank": 2, "dropout": 0.3}}
    assert_resume_is_exact(tiny_model, tiny_data, tmp_path, "model/adapter_model.safetensors", plan=plan)
    assert not (tmp_path / "whole" / "model" / "model.safetensors").exists()


def test_lora_dropout_acts_in_training_only(base, tiny_data, tmp_path):
    """Training is a call with a key."""
    plan = {"preset": "lora", "lora": {"dropout": 0.5}}
    model, params = adapted(base, plan)
    params = randomised(params)
    batch = jaxft.models.forward.batch_of(model, INPUTS)
    rates = model.override(dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0)
    keys = [None, None, random_keys.root_key(0), random_keys.root_key(0), random_keys.root_key(1)]
    apply = jax.jit(partial(model.apply, rates=rates))
    plain, again, a, b, c = (np.asarray(apply(params, batch, key=key)["logits"]) for key in keys)
    np.testing.assert_array_equal(plain, again)
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - plain).max() > 1e-4
    assert np.abs(a - c).max() > 1e-4


@pytest.mark.slow
def test_commands_agree_on_a_lora_run(base, tiny_data, tmp_path, capsys):
    """train, evaluate, predict, export and export --merge of a LoRA run agree; a run does not start from an adapter."""
    sections = {"data": {"validation": str(tiny_data / "dev.csv")}, "train": {"epochs": 1}, "optim": {"learning_rate": 0.02}}
    train(config_of(base, {"preset": "lora", "lora": {"targets": "all"}}, tiny_data, tmp_path / "run", **sections))
    data = ["--data.validation", str(tiny_data / "dev.csv"), "--data.max_length", "32"]
    export.main([str(tmp_path / "run"), "--output", str(tmp_path / "again")])
    export.main([str(tmp_path / "run"), "--merge", "--output", str(tmp_path / "merged")])
    export.main([str(tmp_path / "again"), "--merge", "--output", str(tmp_path / "folded")])
    tensors = [open_weights(tmp_path / x)[0] for x in ("merged", "folded")]
    for name, x in tensors[0].items():
        np.testing.assert_array_equal(x.read(), tensors[1][name].read())
    scores = [evaluate.main([str(tmp_path / x), *data]) for x in ("run", "again", "merged")]
    losses = [x.pop("loss") for x in scores]
    assert scores[0] == scores[1]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)  # a run loops over layers, as it was told; a model does not
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)
    for x in ("run", "merged"):
        options = ["--input", str(tiny_data / "dev.csv"), "--output", str(tmp_path / f"{x}.jsonl"), "--data.max_length=32"]
        predict.main([str(tmp_path / x), *options])
    rows = [[row["label"] for row in read_jsonl(tmp_path / f"{x}.jsonl")] for x in ("run", "merged")]
    assert rows[0] == rows[1]
    with pytest.raises(UserError, match=r"is an adapter; .*--merge"):
        make_run(config_of(str(tmp_path / "again"), {}, tiny_data, tmp_path / "next"))
    with pytest.raises(UserError, match="--merge needs --output"):
        export.main([str(tmp_path / "run"), "--merge"])


def test_a_teacher_may_be_an_adapter(base, tiny_data, tmp_path):
    """distill.teacher may be an adapter directory."""
    model, params = adapted(base, ALL)
    jaxft.save(model, randomised(params), tmp_path / "teacher")
    run = make_run(config_of(base, {}, tiny_data, tmp_path / "run", distill={"teacher": str(tmp_path / "teacher")}))
    assert modules(run.teachers[0].params) == modules(params)


def test_what_the_base_lacks_is_saved_with_the_adapter(base, tiny_data, tmp_path):
    """A pooler that was drawn because the checkpoint has none, even if it is frozen."""
    shutil.copytree(base, tmp_path / "base")
    rewrite(tmp_path / "base", lambda tensors: {name: x for name, x in tensors.items() if "pooler" not in name})
    plan = {"preset": "lora", "rules": [{"pattern": "pooler", "trainable": False}]}
    run = make_run(config_of(str(tmp_path / "base"), plan, tiny_data, tmp_path / "run"))
    assert {"encoder.pooler.dense.kernel", "encoder.pooler.dense.bias"} <= run.model.adapted.saved
    jaxft.save(run.model, run.params, tmp_path / "adapter")
    again = tree.unstack(jaxft.load(str(tmp_path / "adapter"), seed=5)[1])
    name = "encoder.pooler.dense.kernel"
    np.testing.assert_array_equal(again[name], tree.unstack(run.params)[name])


def test_dora_follows_a_kernel_that_the_plan_draws(base, tiny_data, tmp_path):
    """The kernel is saved with the adapter, because the base does not have it."""
    plan = {"preset": ["lora", "reinit"], "lora": {"dora": True}}
    run = make_run(config_of(base, plan, tiny_data, tmp_path / "run"))
    flat, before = tree.unstack(run.params), tree.unstack(load(base)[1])
    for layer, drawn in ((LAYERS - 2, False), (LAYERS - 1, True)):
        query = f"encoder.layer.{layer}.attention.self.query"
        assert np.array_equal(flat[f"{query}.kernel"], before[f"{query}.kernel"]) != drawn
        assert (f"{query}.kernel" in run.model.adapted.saved) == drawn
        lengths = np.linalg.norm(flat[f"{query}.kernel"], axis=0)
        np.testing.assert_allclose(flat[f"{query}.magnitude"], lengths, rtol=1e-6)
