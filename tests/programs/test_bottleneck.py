"""Bottleneck adapters: nothing changes at the start, both kinds are at the right layers, and files round-trip."""

import jax
import numpy as np
import pytest

import jaxft
from jaxft.config import cli
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.models.encoder import adapters
from jaxft.models.load_save import load
from jaxft.models.model import make_model
from jaxft.models.weights.tensor_files import open_safetensors
from jaxft.param_plan import make_plan
from jaxft.run.adapter_targets import add_adapters, complete_adapters
from jaxft.run.setup import Run, make_run
from tests.support import tiny, zoo
from tests.support.lora import randomised
from tests.support.resuming import assert_resume_is_exact
from tests.support.steps import assert_same, gradients, rearranged

KIND = "text-classification"
SMALL = {"size": 5, "activation": "tanh"}


def adapted(base, kind: str, rules=()):
    """(model, params, plan) with adapters."""
    model, params = load(str(base))
    plan = {"preset": "adapters", "adapters": {**SMALL, "kind": kind}, "rules": list(rules)}
    config = cli.parse({"model": {"path": str(base)}, "plan": plan}, [], origin="test")
    model, params = add_adapters(model, params, config)
    made = make_plan(config.plan, params, model.encoder.config.parameter_layers)
    return *complete_adapters(model, params, made, 0), made


@pytest.mark.parametrize("family", zoo.families())
def test_adapters_of_every_family_begin_as_the_base_and_round_trip(family, tmp_path):
    """Random ones change the logits."""
    config = zoo.fixed(family, KIND)
    base = make_model(config, KIND, "zoo")
    jaxft.save(base, tiny.random_params(base), tmp_path / "base")
    inputs = zoo.inputs_for(family, KIND, config, shortest=7)
    expected = jaxft.forward(*load(str(tmp_path / "base")), inputs)["logits"]
    model, params, _ = adapted(tmp_path / "base", "houlsby")
    layers = model.encoder.config.parameter_layers
    assert sum(name.endswith("adapter.up.kernel") for name in tree.all_names(params)) == 2 * layers
    begin = jaxft.forward(model, params, inputs)["logits"]  # adding 0 is exact; what the compiler fuses with it is not
    assert np.abs(begin - expected).max() <= 1e-6 * np.abs(expected).max()
    params = randomised(params)
    outputs = jaxft.forward(model, params, inputs)["logits"]
    assert np.abs(outputs - expected).max() > 1e-3 * np.abs(expected).max()
    jaxft.save(model, params, tmp_path / "adapter")
    again, loaded = load(str(tmp_path / "adapter"))
    assert again.encoder.config.adapter.size == 5
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_an_adapter_computes_the_papers_formula(classifier):
    """After the projection and before the residual and norm: h + up(tanh(down(h))), in numpy."""
    model, params, _ = adapted(classifier, "pfeiffer")
    flat = {name.removeprefix("encoder.layer.1.output."): x for name, x in tree.unstack(randomised(params)).items()}
    h = np.random.default_rng(0).normal(size=(7, 24)).astype(np.float32)
    narrow = np.tanh(h @ flat["adapter.down.kernel"] + flat["adapter.down.bias"])
    expected = h + narrow @ flat["adapter.up.kernel"] + flat["adapter.up.bias"]
    from jaxft.models.encoder.blocks import Adapter
    from jaxft.models.encoder.layers import run

    own = {side: {leaf: flat[f"adapter.{side}.{leaf}"] for leaf in ("kernel", "bias")} for side in ("down", "up")}
    np.testing.assert_allclose(run(Adapter(model.encoder.config), own, h), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "sites"), [("houlsby", {"attention.output", "output"}), ("pfeiffer", {"output"})])
def test_adapters_norms_and_heads_are_trained(classifier, kind, sites):
    model, params, plan = adapted(classifier, kind)
    names = tree.all_names(params)
    found = {name.partition(".adapter.")[0].partition("layer.")[2][2:] for name in names if ".adapter." in name}
    assert found == sites
    norms = {n for n in names if ".layer." in n and "LayerNorm" in n} if kind == "houlsby" else set()
    expected = norms | {n for n in names if ".adapter." in n or n.startswith("heads.")}
    assert {name for name, setting in plan.settings.items() if setting.trainable} == expected
    assert model.adapted.saved == {name for name in expected if ".adapter." not in name}


def test_rules_switch_adapters_off_and_bad_plans_are_refused(classifier):
    rules = [{"pattern": r"layer\.0\.", "adapter": False}]
    names = tree.all_names(adapted(classifier, "houlsby", rules)[1])
    assert {name.split(".")[2] for name in names if adapters.is_adapter(name)} == {"1"}
    with pytest.raises(UserError, match="behind which an adapter can stand"):
        adapted(classifier, "houlsby", [{"pattern": "query", "adapter": True}])
    with pytest.raises(UserError, match="bottleneck adapters, which are separate layers"):
        jaxft.merge(*adapted(classifier, "houlsby")[:2])
    plan = {"preset": "adapters", "adapters": {"activation": "gleu"}}
    config = cli.parse({"plan": plan}, [], origin="test")
    with pytest.raises(UserError, match=r"plan\.adapters\.activation is gleu"):
        add_adapters(*load(str(classifier)), config)


@pytest.fixture(scope="module")
def run(classifier, tiny_data, tmp_path_factory) -> Run:
    output = tmp_path_factory.mktemp("adapters") / "run"
    sections = {"model": tiny.NO_DROPOUT, "data": {"validation": None}}
    return make_run(
        tiny.run_config(classifier, tiny_data, output, plan={"preset": "adapters", "adapters": SMALL}, **sections)
    )


def test_gradients_do_not_depend_on_the_layout(run):
    assert_same(rearranged(run, data=4, fsdp=2), gradients(rearranged(run, "pad")))


def test_a_run_resumes_exactly_and_writes_documented_files(tiny_model, tiny_data, tmp_path):
    """The files have the trained parameters, norms included, under documented names."""
    plan = {"preset": "adapters", "adapters": SMALL}
    weights = "model/adapter_model.safetensors"
    assert_resume_is_exact(tiny_model, tiny_data, tmp_path, weights, plan=plan)
    names = open_safetensors(tmp_path / "whole" / weights).keys()
    layer = "base_model.model.bert.encoder.layer.1."
    assert {f"{layer}attention.output.dense.adapter_down.weight", f"{layer}output.dense.adapter_up.bias"} <= names
    assert {f"{layer}output.LayerNorm.weight", "base_model.model.classifier.weight"} <= names
    assert not any(name.endswith("query.weight") for name in names)
