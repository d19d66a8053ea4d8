"""Frozen layers whose outputs are computed once give what they give in every step."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxft import plan
from jaxft.config import cli
from jaxft.core import tree
from jaxft.models import forward
from jaxft.models.encoder.config import DropoutSite
from jaxft.models.model import make_model
from jaxft.run.setup import make_run
from jaxft.step.parameters import Parameters
from jaxft.train import train
from jaxft.training import frozen_features
from tests.support import tiny, zoo
from tests.support.resuming import MODEL, assert_journals_close, assert_resume_is_exact, journal

KIND = "feature-extraction"
LAST = {"plan": {"preset": "last_n", "n": 1}}
WORDS = [{"pattern": "word_emb|^heads", "trainable": True}, {"pattern": "", "trainable": False}]
BELOW = [{"pattern": r"embeddings|layer\.0\.", "trainable": False}]


def configure(model, data, output, /, **sections):
    sections["model"] = {"path": str(model), **tiny.NO_DROPOUT, "classifier_dropout": 0.3, **sections.get("model", {})}
    return tiny.run_config(model, data, output, **sections)


@pytest.mark.parametrize("family", zoo.families())
def test_every_family_continues_from_the_outputs_of_any_layer(family):
    config = zoo.fixed(family, KIND)
    model = make_model(config, KIND, "zoo")
    params, batch = tiny.random_params(model), forward.batch_of(model, zoo.inputs_for(family, KIND, config))
    encoder, layers = model.encoder, model.encoder.config.parameter_layers

    def apply(params, inputs):
        return jax.jit(lambda p: encoder.apply(p, inputs, rates=model.rates)["last_hidden_state"])(params)

    whole = np.asarray(apply(params["encoder"], batch))
    for k in [layers] if encoder.config.groups else range(1, layers + 1):
        cut = tree.recut(params, [k])
        lower = frozen_features.lowest(cut, k)
        above = frozen_features.FrozenFeatures(k).without_cached(Parameters(cut)).model["encoder"]
        found = apply(above, batch | {"hidden_states": apply(lower, batch)})
        assert np.abs(np.asarray(found) - whole).max() <= 1e-5 * np.abs(whole).max(), k


@pytest.mark.parametrize(
    ("sections", "layers"),
    [
        ({"plan": {"preset": "head"}}, 2),
        (LAST, 1),
        (LAST | {"plan": {"preset": ["last_n", "lora"], "n": 1}}, 0),
        ({"plan": {"preset": "full"}}, 0),
        ({"plan": {"preset": "freeze_embeddings"}}, 0),
        ({"plan": {"preset": "bias"}}, 0),
        ({"plan": {"preset": "none", "rules": WORDS}}, 0),
        ({"plan": {"preset": "gradual", "unfreeze_every": 2}}, 0),
        (LAST | {"model": {"dropout": 0.1}}, 0),
        (LAST | {"model": {"attention_dropout": 0.1}}, 0),
        (LAST | {"regularization": {"neftune": 5.0}}, 0),
    ],
)
def test_the_number_of_frozen_layers_depends_on_the_config(tiny_model, tiny_data, tmp_path, sections, layers):
    run = make_run(configure(tiny_model, tiny_data, tmp_path / "run", **sections))
    assert frozen_features.frozen_layers(run) == layers


def test_a_layer_with_dropout_is_not_frozen(tiny_model, tiny_data, tmp_path):
    run = make_run(configure(tiny_model, tiny_data, tmp_path / "run", plan={"preset": "head"}))
    for layer, kept in ((0, 0), (1, 1)):
        rates = replace(run.model.rates, own={DropoutSite.OUTPUT.name_in(layer): 0.1})
        assert frozen_features.frozen_layers(replace(run, model=replace(run.model, rates=rates))) == kept


@pytest.mark.parametrize(("silent", "kept"), [(r"embeddings|layer\.[01]", 2), (r"embeddings|layer\.0", 1), ("layer", 0)])
def test_layers_are_frozen_if_rules_switch_dropout_off(tiny_model, tiny_data, tmp_path, silent, kept):
    plan = {"preset": "head", "rules": [{"pattern": rf"({silent}).*dropout", "dropout": 0.0}]}
    rates = {"dropout": 0.1, "attention_dropout": 0.1}
    run = make_run(configure(tiny_model, tiny_data, tmp_path / "run", plan=plan, model=rates))
    assert frozen_features.frozen_layers(run) == kept


def test_no_layer_is_frozen_if_inputs_are_masked(tiny_model, tiny_data, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("the old river runs over stone.\n\n" * 40)
    sections = {"task": {"name": "fill-mask"}, "data": {"train": str(texts), "validation": None}, "plan": {"preset": "head"}}
    assert frozen_features.frozen_layers(make_run(configure(tiny_model, tiny_data, tmp_path / "run", **sections))) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        {"plan": {"preset": "head"}, "data": {"layout": "bucket"}},
        LAST | {"mesh": {"data": 4, "fsdp": 2}, "train": {"epochs": 2, "batch_size": 16, "micro_batches": 2}},
        LAST | {"distill": {"teacher": "TEACHER"}, "regularization": {"r_drop": 1.0}},
        {"plan": {"preset": "gradual", "unfreeze_every": 3, "rules": BELOW}},
    ],
    ids=["head", "devices", "teacher", "gradual"],
)
def test_a_run_gives_what_it_gives_without_the_cache(tiny_model, classifier, tiny_data, tmp_path, capsys, sections):
    if "distill" in sections:
        sections = sections | {"distill": {"teacher": str(classifier)}}
    found = []
    for name, keep in (("kept", True), ("plain", False)):
        runtime = {"distributed": "off", "unroll": 1, "keep_frozen": keep}
        config = configure(tiny_model, tiny_data, tmp_path / name, **sections, runtime=runtime, eval={"every": 5})
        capsys.readouterr()
        train(config)
        assert ("computing the frozen" in capsys.readouterr().err) == keep
        found.append(journal(tmp_path / name))
    assert_journals_close(*found, rel=1e-4)


def test_resuming_is_exact(tiny_model, tiny_data, tmp_path):
    sections = {"model": {"path": str(tiny_model), **tiny.NO_DROPOUT}, "train": {"epochs": 2, "batch_size": 16}}
    assert_resume_is_exact(tiny_model, tiny_data, tmp_path, MODEL, **LAST, **sections)


def full(*_):
    raise OSError("No space left on device")


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (frozen_features.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000)),
        (frozen_features.os, "posix_fallocate", full),
    ],
)
def test_without_disk_space_nothing_is_cached(tiny_model, tiny_data, tmp_path, capsys, monkeypatch, owner, name, broken):
    monkeypatch.setattr(owner, name, broken)
    train(configure(tiny_model, tiny_data, tmp_path / "run", plan={"preset": "head"}))
    assert "do not fit into" in capsys.readouterr().err


def test_plan_reports_the_frozen_layers(tiny_model, tiny_data, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(cli.dump(configure(tiny_model, tiny_data, tmp_path / "run", **LAST)))
    plan.main([str(path)])
    assert "the lowest layer never changes" in capsys.readouterr().out
