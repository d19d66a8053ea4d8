"""Model directories with huge numbers, deep nesting, long names or paths that lead out: one short line within seconds."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import jaxft
from jaxft.core import patterns
from jaxft.core.errors import LONG_TEXT
from jaxft.core.paths import path_inside
from tests.support.damage import edit_config, rewrite, shard
from tests.support.hostile import DIGITS, NAME, NEST, refused


@pytest.fixture
def model(tiny_model, tmp_path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "m")


# config.json and the other files of a model


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_hidden_layers": 100_000}, "num_hidden_layers is 100000: must be a whole number from 1 to 10,000"),
        ({"num_hidden_layers": 9_000}, "config.json has 9,000 layers, the weights are 39 tensors"),
        ({"hidden_size": 2**31 - 1}, "hidden_size 2147483647 is not a multiple of"),
        ({"hidden_size": 3 * 2**29}, "config.json asks for [1610612736]"),
        ({"vocab_size": 10**9}, "is [41, 24], config.json asks for [1000000000, 24]"),
        ({"vocab_size": 10**12}, "must be a whole number from 1 to 2,147,483,647"),
        ({"layer_norm_eps": 1e300}, "layer_norm_eps is 1e+300"),
        ({"pad_token_id": 41}, "pad_token_id is 41, but vocab_size is 41"),
        ({"num_labels": 10**9, "architectures": ["BertForSequenceClassification"]}, "num_labels is 1000000000"),
        ({"num_labels": "two"}, "num_labels is 'two'"),
        ({"model_type": NAME}, 'xx" is not one that jaxft reads'),
        ({"hidden_act": NAME}, "is unknown"),
        ({"id2label": {DIGITS: "a"}}, "must map numbers to names"),
        ({"id2label": {"0": "\ud800"}}, r"holds \ud800, half of a character"),
    ],
)
def test_fields_of_config_json_are_checked(model, fields, words):
    edit_config(model, **fields)
    refused(lambda: jaxft.load(str(model)), words)


@pytest.mark.parametrize("text", [NEST, f'{{"a": {NEST}', f'{{"hidden_size": {DIGITS}}}', '{"a":' * 100_000])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "adapter_config.json"])
def test_huge_json_is_refused(model, name, text):
    if "index" in name:
        shard(model)
    (model / name).write_text(text)
    refused(lambda: jaxft.load(str(model)), f"{name}: not valid JSON (")


def test_sizes_beyond_the_memory_are_refused(model):
    edit_config(model, hidden_size=3 * 2**29)
    refused(lambda: jaxft.load(str(model), from_scratch=True), "GB of parameters; this machine has")


@pytest.mark.parametrize(
    "header", [b'{"a":' * 100_000, NEST.encode(), b'{"a":{"dtype":"F32","shape":[%s]}}' % DIGITS.encode()]
)
def test_huge_safetensors_headers_are_refused(model, header):
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    refused(lambda: jaxft.load(str(model)), "not a complete safetensors file")


def test_long_names_of_tensors_are_shortened_in_errors(model):
    rewrite(model, lambda t: t | {f"encoder.layer.7.{NAME}": np.zeros(3, "f4")})
    refused(lambda: jaxft.load(str(model)), "has no: encoder.layer.7.xx", "xx...xx")


def test_long_names_of_tensors_are_shortened_in_the_report(model):
    rewrite(model, lambda t: t | {f"{NAME}{i}.weight": np.zeros(3, "f4") for i in range(20)})
    assert max(map(len, jaxft.load(str(model))[0].report.lines())) <= LONG_TEXT + 10


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("flax", [False, True])
def test_weights_that_are_not_finite_are_refused(model, value, flax):
    def change(tensors: dict) -> dict:
        tensors["encoder.layer.1.output.dense.weight"][3, 5] = value
        return tensors

    if flax:
        loaded, params = jaxft.load(str(model))
        params["encoder"]["layer"]["0:2"]["output"]["dense"]["kernel"][1, 3, 5] = value
        jaxft.save(loaded, params, model, flax=True)
        (model / "model.safetensors").unlink()
    else:
        rewrite(model, change)
    name = "encoder.layer.1.output.dense." + ("kernel" if flax else "weight")
    refused(lambda: jaxft.load(str(model)), f"the tensor {name} holds NaN or infinity (1 of 960 numbers)")


def test_a_run_refuses_weights_that_are_not_finite(train_fails, model):
    rewrite(model, lambda t: t | {"embeddings.LayerNorm.bias": np.full(24, np.nan, "f4")})
    train_fails({}, "the tensor embeddings.LayerNorm.bias holds NaN", model=model)


# Adapters


@pytest.mark.parametrize("option", ["target_modules", "exclude_modules", "alpha_pattern"])
def test_endless_patterns_of_an_adapter_are_refused(model, tmp_path, monkeypatch, option):
    monkeypatch.setattr(patterns, "SECONDS", 0.5)
    endless = r"((\w|\.)+)+!"
    names = [f"encoder.layer.{i}.attention.self.{x}" for i in range(2) for x in ("query", "value")]
    adapter = {
        f"base_model.model.{name}.lora_{x}.weight": np.ones((2, 24) if x == "A" else (24, 2), "f4")
        for name in names
        for x in "AB"
    }
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(model), "r": 2, "target_modules": ["query", "value"]}
    settings |= {option: {endless: 1} if option == "alpha_pattern" else endless}
    directory = tmp_path / "adapter"
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    save_file(adapter, directory / "adapter_model.safetensors")
    refused(lambda: jaxft.load(str(directory)), "takes more than 0.5 seconds to match")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"lora_alpha": 10**400}, "lora_alpha is 1000"),
        ({"r": 10**400}, "r is 1000"),
        ({"alpha_pattern": {"query": 10**400}}, "alpha_pattern: query is 1000"),
        ({"peft_type": "JAXFT_BOTTLENECK", "size": 10**9, "activation": "gelu"}, "has the size 1000000000"),
    ],
)
def test_huge_numbers_of_an_adapter_are_refused(model, tmp_path, fields, words):
    directory = tmp_path / "adapter"
    directory.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(model), "r": 2, "target_modules": ["query"]} | fields
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.encoder.layer.0.output.dense"
    save_file({f"{name}.adapter_down.weight": np.ones((2, 24), "f4")}, directory / "adapter_model.safetensors")
    refused(lambda: jaxft.load(str(directory)), words)


# Paths that lead out of a directory


def test_shards_must_lie_in_their_directory(model, tmp_path):
    names = shard(model)
    first = names["embeddings.LayerNorm.bias"]
    shutil.move(model / first, tmp_path / first)
    (model / "link.safetensors").symlink_to(tmp_path / first)
    index = model / "model.safetensors.index.json"
    for name in (f"../{first}", str(tmp_path / first), "link.safetensors", f"a/../../{first}", "/dev/zero", ".."):
        index.write_text(json.dumps({"weight_map": {k: name if v == first else v for k, v in names.items()}}))
        refused(lambda: jaxft.load(str(model)), "names the shard", "which is outside of its directory")
    for name in (NAME, "a\0b", f"{'a/' * 5000}b"):
        index.write_text(json.dumps({"weight_map": {k: name if v == first else v for k, v in names.items()}}))
        refused(lambda: jaxft.load(str(model)), "names the shard", "which is not there")


def test_links_of_the_hubs_cache_are_followed(model, tmp_path):
    """Files in snapshots/REVISION are links to blobs."""
    right = jaxft.load(str(model))[0].report.loaded
    shard(model)
    snapshot, blobs = tmp_path / "models--a--b/snapshots/0123", tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for i, file in enumerate(sorted(model.iterdir())):
        shutil.move(file, blobs / f"{i}abc")
        (snapshot / file.name).symlink_to(f"../../blobs/{i}abc")
    assert jaxft.load(str(snapshot))[0].report.loaded == right
    (tmp_path / "short").symlink_to(snapshot)
    assert jaxft.load(str(tmp_path / "short"))[0].report.loaded == right
    assert path_inside(snapshot, "../../../x") is None
    (snapshot / "out").symlink_to(tmp_path / "m")
    assert path_inside(snapshot, "out") is None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("package:jaxft/../tests", "../tests is outside of the package jaxft"),
        ("package:jaxft//etc", "/etc is outside of the package jaxft"),
        ("package:jaxft/models/../../..", "is outside of the package jaxft"),
        (f"package:jaxft/{NAME}", "has no folder xxx"),
        (f"package:{NAME}/a", "is not installed"),
        ("package:../tests", "the Python package .. is not installed"),
        ("package:\ud800/a", "is not installed"),
        (NAME, "no such directory"),
        ("a/" * 5000, "no such directory"),
        ("a\0b", "no such directory"),
    ],
)
def test_paths_without_a_model_are_refused(path, words):
    refused(lambda: jaxft.load(path), words)


def test_a_link_out_of_a_package_is_refused(tmp_path, monkeypatch):
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier/__init__.py").write_text("")
    (tmp_path / "carrier/out").symlink_to("/tmp")
    monkeypatch.syspath_prepend(str(tmp_path))
    refused(lambda: jaxft.load("package:carrier/out"), "out is outside of the package carrier")
