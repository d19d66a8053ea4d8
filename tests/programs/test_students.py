"""Students: which layers a rule keeps, other sizes with random weights, and embeddings of another model."""

import json

import numpy as np
import pytest

import jaxft
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.models.families import FAMILIES
from jaxft.models.student import chosen_layers, with_changes, with_layers
from jaxft.run.setup import make_run
from tests.support import tiny, zoo
from tests.support.steps import configure


@pytest.mark.parametrize(
    ("rule", "count", "layers"),
    [
        ("uniform 6", 12, (0, 2, 4, 7, 9, 11)),  # DistilBERT's
        ("uniform 3", 5, (0, 2, 4)),
        ("uniform 1", 4, (0,)),
        ("every 2", 5, (0, 2, 4)),
        ("first 2", 4, (0, 1)),
        ("last 2", 4, (2, 3)),
        ([1, 3], 4, (1, 3)),
    ],
)
def test_a_rule_names_layers(rule, count, layers):
    assert chosen_layers(rule, count, "x") == layers


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ([0, 4], "there is no layer 4: the layers are 0 to 3"),
        ([2, 1], "ascending order"),
        ([], "ascending order"),
        ("last 5", "last 5 of a model with 4 layers"),
        ("every two", "no rule"),
    ],
)
def test_layers_that_are_not_there(rule, said):
    with pytest.raises(UserError, match=f"^x: .*{said}"):
        chosen_layers(rule, 4, "x")


def test_layers_that_cannot_stand_alone():
    albert, modern = (zoo.fixed(name, "fill-mask") for name in ("albert", "modernbert"))
    with pytest.raises(UserError, match=r"model\.layers: the layers of m share their parameters"):
        with_layers(FAMILIES["albert"], albert, "every 2", "m", "c")
    modern |= {"num_hidden_layers": 4, "layer_types": ["full_attention", *["sliding_attention"] * 2, "full_attention"]}
    with pytest.raises(UserError, match="the first layer of m has parameters of another kind: keep layer 0"):
        with_layers(FAMILIES["modernbert"], modern, [1, 2], "m", "c")
    found, layers = with_layers(FAMILIES["modernbert"], modern, [0, 2, 3], "m", "c")
    assert (found["layer_types"], layers) == (["full_attention", "sliding_attention", "full_attention"], (0, 2, 3))


def test_local_layers_stay_local_where_numbers_decide():
    """ModernBERT's checkpoints have no layer_types: every third layer is global."""
    config = {"model_type": "modernbert", "num_hidden_layers": 7}
    family = FAMILIES["modernbert"]
    assert "layer_types" not in with_layers(family, config, 4, "m", "c")[0]
    found, _ = with_layers(family, config, [0, 1, 3, 6], "m", "c")
    assert [x == "sliding_attention" for x in found["layer_types"]] == [False, True, False, False]


def test_a_run_keeps_some_layers(tmp_path, tiny_data):
    path = tiny.write_model(tmp_path / "m", num_hidden_layers=4, labels=tiny.LABELS)
    run = make_run(configure(path, tiny_data, tmp_path / "run", model={"layers": "last 2"}))
    assert "kept layers 2, 3 (from 0)" in run.model.report.lines()
    _, params = jaxft.load(str(path))
    ours, whole = (x["encoder"]["layer"] for x in (run.params, params))
    for name, x in tree.flatten(ours["0:2"]).items():
        np.testing.assert_array_equal(x, tree.flatten(whole["0:4"])[name][2:])
    jaxft.save(run.model, run.params, tmp_path / "student")
    assert json.loads((tmp_path / "student/config.json").read_text())["num_hidden_layers"] == 2
    again, _ = jaxft.load(str(tmp_path / "student"))
    assert again.encoder.config.num_layers == 2


# Other sizes


def test_a_thinner_student_of_another_family_shares_the_embeddings(classifier, tiny_data, tmp_path):
    """ELECTRA's factorised embeddings have the width of the teacher's, whatever the width of the layers is."""
    config = {"model_type": "electra", "hidden_size": 12, "embedding_size": 24, "num_attention_heads": 2}
    model = {"from_scratch": True, "config": config, "embeddings": str(classifier)}
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", model=model, distill={"teacher": str(classifier)}))
    assert (run.model.encoder.config.hidden_size, run.model.encoder.config.width) == (12, 24)
    ours, teachers = (x["encoder"]["embeddings"] for x in (run.params, run.teachers[0].params))
    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    for name in tables:
        np.testing.assert_array_equal(ours[name]["embedding"], teachers[name]["embedding"])
    assert ours["projection"]["kernel"].shape == (24, 12)
    jaxft.save(run.model, run.params, tmp_path / "student")
    again, params = jaxft.load(str(tmp_path / "student"))
    assert again.hf_config["architectures"] == ["ElectraForSequenceClassification"]
    np.testing.assert_array_equal(params["encoder"]["embeddings"]["projection"]["kernel"], ours["projection"]["kernel"])


def test_sizes_keep_their_values_in_a_family_that_calls_them_otherwise():
    """Under BERT's names DistilBERT would not find them and be 768 wide, and transformers, which knows both, would."""
    config = with_changes(tiny.CONFIG, {"model_type": "distilbert"}, "x")
    found = {name: config[name] for name in ("dim", "n_layers", "n_heads", "hidden_dim", "activation")}
    assert found == {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "activation": "gelu_new"}
    assert not config.keys() & {"hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act"}
    back = with_changes(config, {"model_type": "bert", "hidden_size": 12}, "x")
    assert (back["hidden_size"], back["num_hidden_layers"], "dim" in back) == (12, 2, False)


def test_sizes_that_do_not_fit(train_fails, classifier, tmp_path):
    scratch = {"model.from_scratch": True}
    train_fails({"model.config": "{hidden_size: 12}"}, "model.config needs model.from_scratch true")
    train_fails({"model.embeddings": classifier}, "model.embeddings needs model.from_scratch true")
    train_fails(
        scratch | {"model.config": "{hiden_size: 12}"}, 'bert has no field "hiden_size"', 'did you mean "hidden_size"'
    )
    train_fails(scratch | {"model.config": "{hidden_size: 13}"}, "hidden_size 13 is not a multiple of num_attention_heads 3")
    narrow = scratch | {"model.config": "{hidden_size: 12}", "model.embeddings": classifier}
    train_fails(narrow, f"model.embeddings {classifier}", "[41, 24]", "[41, 12]", "embedding_size 24")
    other = tiny.write_model(tmp_path / "other")
    (other / "vocab.txt").write_text((other / "vocab.txt").read_text() + "more\n")
    train_fails(scratch | {"model.embeddings": other}, f"model.embeddings {other} has another vocabulary")


def test_layers_that_options_exclude(train_fails):
    train_fails({"model.layers": "[0]", "model.num_layers": 1}, "model.num_layers and model.layers exclude each other")
    train_fails({"model.layers": "[0]", "plan.preset": "lora"}, "model.layers is [0]", "model.num_layers")
    train_fails({"model.layers": "[0, 2]"}, "model.layers", "no layer 2: the layers are 0 to 1")
    train_fails({"model.layers": "two"}, "model.layers is two", "uniform 6")
