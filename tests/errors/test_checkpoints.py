"""Model directories of every family: those that cannot be loaded are refused in one line."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxft
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.models.families import FAMILIES
from jaxft.models.model import make_model
from tests.support import tiny, zoo
from tests.support.damage import edit_config, rewrite, shard


def write(directory: Path, family: str, kind: str, *, flax: bool = False, seed: int = 0) -> Path:
    model = make_model(zoo.fixed(family, kind, seed), kind, "zoo")
    jaxft.save(model, tiny.random_params(model, seed), directory, flax=flax)
    return directory


def refused(directory: Path, *parts: str, **options) -> None:
    with pytest.raises(UserError) as caught:
        jaxft.load(str(directory), **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_another_family(family, tmp_path):
    write(tmp_path, "bert" if family != "bert" else "roberta", "text-classification")
    (tmp_path / "config.json").write_text(json.dumps(zoo.fixed(family, "text-classification")))
    refused(tmp_path, "the checkpoint lacks: ", "the model has no: ")


def test_bad_shards_are_refused(tmp_path):
    write(tmp_path, "deberta-v2", "fill-mask")
    right = tree.flatten(jaxft.load(str(tmp_path))[1])
    index = shard(tmp_path)
    found = tree.flatten(jaxft.load(str(tmp_path))[1])
    assert all(np.array_equal(found[path], x) for path, x in right.items())

    path = tmp_path / "model.safetensors.index.json"
    name, (first, second) = next(iter(index)), sorted(set(index.values()))
    path.write_text(f'{{"weight_map": {{"{name}": "{first}", "{name}": "{second}"}}}}')
    refused(tmp_path, f"names {name} twice")
    path.write_text(json.dumps({"weight_map": index | {"made.up": second}}))
    refused(tmp_path, "made.up")
    path.write_text(json.dumps({"weight_map": index}))
    (tmp_path / second).unlink()
    refused(tmp_path, second)


@pytest.mark.parametrize(("family", "name"), [("modernbert", "attn.Wqkv.weight"), ("albert", "ffn.weight")])
def test_a_wrong_shape_or_type_is_refused(family, name, tmp_path):
    write(tmp_path, family, "fill-mask")
    full = next(n for n in load_file(tmp_path / "model.safetensors") if n.endswith(name))
    whole = load_file(tmp_path / "model.safetensors")[full]
    rewrite(tmp_path, lambda t: t | {full: whole[:-1].copy()})
    refused(tmp_path, full, "config.json asks for")
    rewrite(tmp_path, lambda t: t | {full: np.zeros(whole.shape, np.int32)})
    refused(tmp_path, full, "int32")


def test_heads_that_a_family_lacks_are_refused(tmp_path):
    write(tmp_path, "roberta", "feature-extraction")
    refused(tmp_path, "next-sentence-prediction", "roberta", task="next-sentence-prediction")
    refused(tmp_path, "no labels", task="question-answering", num_labels=3)


@pytest.mark.parametrize("family", ["mpnet", "deberta-v2", "modernbert", "camembert"])
def test_families_that_flax_lacks_are_not_saved_as_msgpack(family, tmp_path):
    with pytest.raises(UserError, match="Flax has no"):
        write(tmp_path / "model", family, "fill-mask", flax=True)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("family", "change", "part"),
    [
        ("albert", {"num_hidden_groups": 0}, "num_hidden_groups"),
        ("mpnet", {"relative_attention_num_buckets": 8}, "relative_attention_num_buckets"),
        ("deberta-v2", {"conv_kernel_size": 2}, "conv_kernel_size"),
        ("deberta-v2", {"attention_head_size": 3}, "attention_head_size"),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "yarn"),
        ("modernbert", {"layer_types": ["full_attention"] * 9}, "layer_types"),
        ("electra", {"summary_activation": "geluu"}, 'summary_activation "geluu" is unknown'),
        ("distilbert", {"dropout": 1.5}, "dropout is 1.5"),
        ("roberta", {"num_attention_heads": 7}, "num_attention_heads 7"),
    ],
)
def test_invalid_configs_are_refused(family, change, part, tmp_path):
    kind = "multiple-choice"
    write(tmp_path, family, kind)
    edit_config(tmp_path, **change)
    refused(tmp_path, "config.json", part)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_half_precision_is_saved_as_it_was_loaded(family, dtype, tmp_path):
    """Float32 represents every float16 and bfloat16, so the saved bits are the loaded ones."""
    write(tmp_path / "a", family, "fill-mask")
    rewrite(tmp_path / "a", lambda t: {name: np.asarray(jax.numpy.asarray(x, dtype)) for name, x in t.items()})
    model, params = jaxft.load(str(tmp_path / "a"))
    jaxft.save(model, params, tmp_path / "b")
    before, after = (load_file(tmp_path / x / "model.safetensors") for x in "ab")
    assert all(after[name].dtype == x.dtype and after[name].tobytes() == x.tobytes() for name, x in before.items())
