"""The parameter plan: every parameter has one setting per column; presets combine; rules without effect are errors."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft import optim
from jaxft.config import MeshConfig, OptimConfig, PlanConfig, RuleConfig
from jaxft.core import random_keys, tree
from jaxft.core.errors import UserError
from jaxft.models.model import dropout_sites, make_model
from jaxft.parallel import sharding
from jaxft.param_plan import make_plan
from jaxft.param_plan.presets import times
from jaxft.preflight.costs import expected_memory
from jaxft.run.loss import make_loss
from jaxft.step.parameters import Parameters
from jaxft.step.stages import state_shardings
from jaxft.step.train_step import init_state, train_step
from jaxft.tasks.text_classification import TextClassification
from tests.support import zoo

DEPTH = 4
CONFIG = zoo.fixed("bert", "text-classification") | {"num_hidden_layers": DEPTH}
MODEL = make_model(CONFIG, "text-classification", "here")
PARAMS = MODEL.abstract()
NAMES = tree.all_names(PARAMS)


def plan(*presets: Any, rules: tuple[dict, ...] = (), params=PARAMS, layers: int = DEPTH, **options):
    config = PlanConfig(preset=list(presets), rules=[RuleConfig(**rule) for rule in rules], **options)
    return make_plan(config, params, layers, steps_per_epoch=10, total_steps=100, dropout_sites=dropout_sites(MODEL))


@given(
    st.lists(st.sampled_from(["layerwise_decay", "gradual", "reinit", "last_n", "norms", "head"]), min_size=1, unique=True),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([True, False, None]), st.floats(0.1, 9)), max_size=3),
)
def test_every_parameter_has_one_setting_and_is_in_one_row(presets, own):
    alone = plan(*presets, unfreeze_every="0.5 epochs").settings
    # A second rule for a parameter would have no effect, nor would a rate of a frozen one.
    rules = {name: {"pattern": f"^{name}$", "trainable": on, "learning_rate": rate} for name, on, rate in own}
    for name in [name for name, rule in rules.items() if not (rule["trainable"] or alone[name].trainable)]:
        del rules[name]
    for rule in rules.values():
        if rule["trainable"] is False:
            del rule["learning_rate"]
    made = plan(*presets, rules=tuple(rules.values()), unfreeze_every="0.5 epochs")
    assert made.settings.keys() == set(NAMES)
    rows = [name for row in made.rows for name in row.names]
    assert sorted(rows) == sorted(NAMES)
    assert sum(row.parameters for row in made.rows) == tree.count(PARAMS)
    for name, setting in made.settings.items():
        rule = rules.get(name)
        if rule is None:
            assert setting == alone[name]
        elif setting.trainable:
            assert setting.learning_rate == rule["learning_rate"]
            assert setting.unfreeze == (alone[name].unfreeze if alone[name].trainable else setting.unfreeze)
        assert rule is None or rule["trainable"] is None or setting.trainable == rule["trainable"]
    # All layers of a leaf are trained alike.
    for path in tree.flatten(tree.recut(PARAMS, made.cuts)):
        kinds = {(s.trainable, s.unfreeze) for s in map(made.settings.__getitem__, tree.names(path))}
        assert len(kinds) == 1


def test_rules_decide_each_column_separately():
    rules = (
        {"pattern": "query", "learning_rate": 3.0},
        {"pattern": r"layer\.1\.", "weight_decay": 0.5},
        {"pattern": r"layer\.[12]\.", "learning_rate": 2.0, "weight_decay": 0.25, "schedule": "constant"},
        {"pattern": "query.bias", "weight_decay": True},
    )
    settings = plan("full", rules=rules).settings

    def row(name: str) -> tuple:
        s = settings[f"encoder.layer.{name}"]
        return s.trainable, s.learning_rate, s.weight_decay, s.schedule

    assert row("1.attention.self.query.kernel") == (True, 3.0, 0.5, "constant")
    assert row("2.attention.self.query.bias") == (True, 3.0, 0.25, "constant")
    assert row("2.output.dense.bias") == (True, 2.0, 0.25, "constant")
    assert row("3.attention.self.query.bias") == (True, 3.0, True, None)
    assert row("3.output.dense.bias") == (True, 1.0, False, None)


def test_the_name_of_a_task_decides_no_decay():
    params = {**PARAMS, "heads": {"media-bias": PARAMS["heads"]["main"]}}
    config = PlanConfig(preset="full")
    made = make_plan(config, params, DEPTH, steps_per_epoch=10, total_steps=100, dropout_sites=[])
    found = {name: x.weight_decay for name, x in made.settings.items() if name.startswith("heads.")}
    assert found == {"heads.media-bias.classifier.kernel": True, "heads.media-bias.classifier.bias": False}


def test_layerwise_decay_cuts_no_stack():
    made = plan("layerwise_decay", layer_decay=0.5)
    assert made.cuts == ()
    path = ("encoder", "layer", f"0:{DEPTH}", "output", "dense", "kernel")
    assert [made.settings[name].learning_rate for name in tree.names(path)] == [1 / 16, 1 / 8, 1 / 4, 1 / 2]
    assert made.settings["heads.main.classifier.kernel"].learning_rate == 1
    assert made.settings["encoder.embeddings.word_embeddings.embedding"].learning_rate == 1 / 32


@pytest.mark.parametrize("family", ["albert", "distilbert", "modernbert", "deberta-v2", "mpnet"])
def test_layers_are_found_in_every_family(family):
    """With shared layers, no pooler, a final norm, relative positions: lower layers have lower rates and later stages."""
    model = make_model(zoo.fixed(family, "text-classification"), "text-classification", "here")
    layers = model.encoder.config.parameter_layers
    made = plan("gradual", "layerwise_decay", params=model.abstract(), layers=layers, layer_decay=0.5)
    assert made.stages == tuple(10 * i for i in range(layers + 1))
    for name, setting in made.settings.items():
        part = name.split(".")
        if part[:2] == ["encoder", "layer"]:
            height = layers - int(part[2])
            assert (setting.learning_rate, setting.unfreeze) == (0.5**height, 10 * height), name
        elif part[0] == "heads" or part[1] in ("pooler", "final_norm"):
            assert (setting.learning_rate, setting.unfreeze) == (1.0, 0), name
        else:
            assert (setting.learning_rate, setting.unfreeze) == (0.5 ** (layers + 1), 10 * layers), name


def test_combined_presets_train_what_either_trains():
    def trained(*presets: str) -> set[str]:
        return {name for name, s in plan(*presets, n=1).settings.items() if s.trainable}

    assert trained("bias", "last_n") == trained("bias") | trained("last_n")
    assert trained("bias", "layerwise_decay") == trained("bias")
    assert trained("last_n", "freeze_embeddings") == trained("last_n")


@pytest.mark.parametrize(
    ("presets", "rules", "message"),
    [
        (["full", "head"], [], "plan.preset full and head contradict each other: trainable of encoder.embeddings"),
        (["freeze_embeddings", "norms"], [], "trainable of encoder.embeddings.LayerNorm.bias is false in the first"),
        (["full"], [{"pattern": "clasifier", "learning_rate": 2.0}], 'did you mean "classifier"'),
        (["full"], [{"pattern": "query", "init": "random"}, {"pattern": "query.bias", "init": "keep"}], "earlier rules"),
        (["full"], [{"pattern": "query", "dropout": 0.1}], "matches no dropout site"),
        (["full"], [{"pattern": "pooler", "unfreeze": 100}], "step 100, but the run ends after 100"),
        (["gradual"], [{"pattern": "^heads|pooler", "unfreeze": 5}], "trains nothing before step 5"),
        (["head"], [{"pattern": r"layer\.1\.", "learning_rate": 2.0}], "learning_rate has no effect, because all"),
        (
            ["head"],
            [{"pattern": r"layer\.1\.", "unfreeze": 999}],
            "are frozen, first encoder.layer.1.",
        ),
    ],
)
def test_contradictions_and_rules_without_effect_are_errors(presets, rules, message):
    with pytest.raises(UserError) as error:
        plan(*presets, rules=tuple(rules))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_rule_resolves_a_contradiction_of_presets():
    rule = {"pattern": r"embeddings\.LayerNorm", "trainable": True}
    settings = plan("freeze_embeddings", "norms", rules=(rule,)).settings
    assert settings["encoder.embeddings.LayerNorm.bias"].trainable
    assert not settings["encoder.embeddings.word_embeddings.embedding"].trainable


def test_durations_are_multiplied():
    assert [times(3, 2), times("0.5 epochs", 3), times("10", 1)] == ["6 steps", "1.5 epochs", "10 steps"]
    assert [times(1234567, 1), times("0.1 epochs", 3)] == ["1234567 steps", "0.3 epochs"]


def test_freezing_saves_the_memory_that_the_plan_says():
    """Arguments shrink by the moments of frozen parameters, temporary memory by their gradients and copies of them."""
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 3}
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    model = make_model(CONFIG | sizes | rates, "text-classification", "here")
    params, task = model.abstract(), TextClassification(("a", "b"))
    mesh = sharding.make_mesh(MeshConfig(1))
    shapes = dict.fromkeys(("input_ids", "token_type_ids", "segment_ids", "position_ids"), (1, 1, 8))
    shapes |= dict.fromkeys(("first_token", "labels", "weights"), (1, 1, 1))
    batch = {
        name: jax.ShapeDtypeStruct(s, np.float32 if name == "weights" else np.int32, sharding=sharding.batch_sharding(mesh))
        for name, s in shapes.items()
    }

    def sizes_of(*presets: Any, **options):
        made = plan(*presets, params=params, layers=3, **options)
        optimizer = optim.make_optimizer(OptimConfig(), made, 100)
        trainable, frozen = made.split(params)
        state = jax.eval_shape(
            lambda p: init_state(p, optimizer, random_keys.root_key(0), optim.hyperparameters(OptimConfig())), trainable
        )
        placed = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, state_shardings(mesh, state)
        )
        step = jax.jit(partial(train_step, loss_fn=make_loss(model, task), optimizer=optimizer), donate_argnums=0)
        memory: Any = step.lower(placed, Parameters(frozen), batch).compile().memory_analysis()
        return expected_memory(placed, Parameters(frozen)), memory.argument_size_in_bytes, memory.temp_size_in_bytes

    (said, arguments, temporary), (less, fewer_arguments, less_temporary) = sizes_of("full"), sizes_of("last_n", n=1)
    assert said["parameters"] == less["parameters"]
    assert less["optimizer"] < 0.5 * said["optimizer"]
    assert arguments - fewer_arguments == pytest.approx(said["optimizer"] - less["optimizer"], rel=0.01)
    assert temporary - less_temporary >= said["gradients"] - less["gradients"]
