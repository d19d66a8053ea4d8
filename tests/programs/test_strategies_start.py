"""What the plan changes before the first step: parameters that are drawn again, and dropout rates of single sites."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxft.core import random_keys, tree
from jaxft.models import forward, heads
from jaxft.models.encoder import attention, blocks
from jaxft.models.encoder.config import DropoutSite
from jaxft.models.model import dropout_sites, make_model, with_dropout_rates
from jaxft.run.setup import make_run
from tests.support import tiny, zoo


def test_reinitialised_layers_are_those_of_from_scratch(tiny_model, tiny_data, tmp_path):
    """With the same distribution and seed; everything else is the checkpoint's."""

    def params(**sections):
        run = make_run(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", seed=3, **sections))
        return run, tree.unstack(run.params)

    _, kept = params()
    _, scratch = params(model={"path": str(tiny_model), "from_scratch": True})
    rules = [{"pattern": "word_embeddings", "init": "random"}, {"pattern": "layer.1.*bias", "init": "keep"}]
    run, found = params(plan={"preset": "reinit", "reinit_layers": 1, "rules": rules})
    new = {n for n in kept if "word_embeddings" in n or (".layer.1." in n and not n.endswith("bias"))}
    for name, x in found.items():
        np.testing.assert_array_equal(x, (scratch if name in new else kept)[name], err_msg=name)
        if name in new:
            assert not np.array_equal(x, kept[name]), name
    assert run.model.report
    line = next(x for x in run.model.report.lines() if x.startswith("newly initialised by the plan: "))
    assert "encoder.embeddings.word_embeddings" in line
    assert "encoder.layer.1.output.dense" in line
    assert "layer.0" not in line


def rates_seen(model, monkeypatch) -> list[float]:
    """Dropout rates in the order of their use; dropout is replaced by a function that notes the rate."""
    seen = []

    def note(x, rate, key):
        seen.append(round(float(rate), 4))
        return x

    rng = np.random.default_rng(0)
    batch = forward.batch_of(model, {"input_ids": rng.integers(1, 30, (1, 4))})
    params = tiny.random_params(model)
    with monkeypatch.context() as patch, jax.disable_jit():  # so that a scan calls every layer
        patch.setattr(attention, "_attention", lambda q, k, v, bias, seen, rate, key: note(v, rate, key).swapaxes(1, 2))
        for module in (attention, blocks, heads):
            patch.setattr(module, "dropout", note)
        model.apply(params, batch, key=random_keys.root_key(0))
    return seen


# What each call of `dropout` belongs to, in the order of the program: BERT's, and ALBERT's with one layer applied thrice.
OF_LAYER = ("attention.self", "attention.output", "output")
RULES = [
    {"pattern": r"encoder\.layer\.0\.", "dropout": 0.0},
    {"pattern": r"attention\.self\.dropout", "dropout": 0.4},
    {"pattern": "^encoder.embeddings", "dropout": 0.7},
]


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_only_matching_dropout_sites_change(family, monkeypatch):
    from jaxft.config import PlanConfig, RuleConfig
    from jaxft.param_plan import make_plan

    config = zoo.fixed(family, "text-classification")
    model = make_model(config, "text-classification", "here")
    depth, layers = model.encoder.config.num_layers, model.encoder.config.parameter_layers
    per_layer = [site for site in dropout_sites(model) if site.startswith("encoder.layer.")]
    assert len(per_layer) == layers * len(OF_LAYER)
    before = rates_seen(model, monkeypatch)
    rules = [RuleConfig(**rule) for rule in RULES]
    plan = make_plan(PlanConfig(rules=rules), model.abstract(), layers, dropout_sites=dropout_sites(model))
    after = rates_seen(with_dropout_rates(model, plan.dropout), monkeypatch)
    called = ["encoder.embeddings"]
    group = [int(i / (depth / (model.encoder.config.groups or depth))) for i in range(depth)]
    for i in range(depth):
        called += [f"encoder.layer.{j}.{where}" for j in _inner(model, group[i]) for where in OF_LAYER]
    expected = []
    for i, rate in enumerate(before):
        name = called[i] if i < len(called) else "heads.main"
        own = 0.7 if "embeddings" in name else 0.0 if ".layer.0." in name else 0.4 if "attention.self" in name else rate
        expected.append(own)
    assert after == expected
    assert after != before
    by_keys = replace(model, rates=replace(model.rates, by_keys=True))
    assert with_dropout_rates(by_keys, plan.dropout).rates.by_keys
    assert set(plan.dropout.values()) == {0.0, 0.4, 0.7} if layers > 1 else {0.0, 0.7}


def test_every_head_has_a_rate_of_its_own():
    """Also with model.classifier_dropout, which is the rate of every head without a rule."""
    config = zoo.fixed("bert", "text-classification")
    model = make_model(config, "text-classification", "here")
    fields = model.heads["main"].parts["logits"].dropout
    model = replace(model, heads=dict.fromkeys(("main", "other"), model.heads["main"]))
    assert [site for site in dropout_sites(model) if "heads" in site] == ["heads.main.dropout", "heads.other.dropout"]
    model = with_dropout_rates(model, {"heads.other.dropout": 0.5, "encoder.embeddings.dropout": 0.25})
    known = config["classifier_dropout"]
    overridden = (model.override(classifier_dropout=0.125), 0.125), (model.override(dropout=0.2), known)
    for rates, main in ((model.rates, known), *overridden):
        assert (rates.of_head("main", fields), rates.of_head("other", fields)) == (main, 0.5)
        assert (rates.of_head("main", ()), rates.of_head("other", ())) == (0.0, 0.0)
    assert rates.of(DropoutSite.EMBEDDINGS) == 0.25
    assert rates.of(DropoutSite.OUTPUT) == 0.2


def _inner(model, group: int) -> range:
    inner = model.encoder.config.inner
    return range(group * inner, (group + 1) * inner)
