"""Numbers, nesting, names, sizes and paths without an end: one short line within seconds, and nothing is built before."""

import itertools
import json
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from safetensors.numpy import save_file

import jaxft
from jaxft.config import Config, cli
from jaxft.core import patterns
from jaxft.core.errors import LONG_TEXT, UserError
from jaxft.core.paths import path_inside
from jaxft.data.formats.squad import read_questions
from jaxft.data.reading.label_spelling import in_order
from jaxft.data.reading.sources import read_rows
from jaxft.tasks.labels import label_values
from tests.support.damage import edit_config, rewrite, shard

DIGITS, NEST, NAME = "9" * 5000, "[" * 100_000, "x" * 10_000


@pytest.fixture
def model(tiny_model, tmp_path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "m")


def refused(run: Callable[[], object], *words: str) -> str:
    start = time.process_time()
    with pytest.raises(UserError) as error:
        run()
    assert time.process_time() - start < 4
    text = str(error.value)
    assert len(text) <= LONG_TEXT + 10
    assert "\n" not in text
    for word in words:
        assert word in text, text
    return text


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
def test_fields_of_config_json(model, fields, words):
    edit_config(model, **fields)
    refused(lambda: jaxft.load(str(model)), words)


@pytest.mark.parametrize("text", [NEST, f'{{"a": {NEST}', f'{{"hidden_size": {DIGITS}}}', '{"a":' * 100_000])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "adapter_config.json"])
def test_json_of_a_model(model, name, text):
    if "index" in name:
        shard(model)
    (model / name).write_text(text)
    refused(lambda: jaxft.load(str(model)), f"{name}: not valid JSON (")


def test_sizes_that_no_memory_holds(model):
    edit_config(model, hidden_size=3 * 2**29)
    refused(lambda: jaxft.load(str(model), from_scratch=True), "GB of parameters; this machine has")


@pytest.mark.parametrize(
    "header", [b'{"a":' * 100_000, NEST.encode(), b'{"a":{"dtype":"F32","shape":[%s]}}' % DIGITS.encode()]
)
def test_headers_of_safetensors(model, header):
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    refused(lambda: jaxft.load(str(model)), "not a complete safetensors file")


def test_names_of_tensors(model):
    rewrite(model, lambda t: t | {f"encoder.layer.7.{NAME}": np.zeros(3, "f4")})
    refused(lambda: jaxft.load(str(model)), "has no: encoder.layer.7.xx", "xx...xx")


def test_a_long_name_that_is_not_needed_is_reported_short(model):
    rewrite(model, lambda t: t | {f"{NAME}{i}.weight": np.zeros(3, "f4") for i in range(20)})
    assert max(map(len, jaxft.load(str(model))[0].report.lines())) <= LONG_TEXT + 10


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("flax", [False, True])
def test_weights_that_are_no_numbers(model, value, flax):
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


def test_a_run_says_so_before_it_starts(train_fails, model):
    rewrite(model, lambda t: t | {"embeddings.LayerNorm.bias": np.full(24, np.nan, "f4")})
    train_fails({}, "the tensor embeddings.LayerNorm.bias holds NaN", model=model)


# Paths that lead out of a directory


def test_shards_lie_in_their_directory(model, tmp_path):
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


def test_links_of_the_hubs_cache_are_fine(model, tmp_path):
    """Its files are links from snapshots/REVISION to blobs."""
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
def test_paths_of_models(path, words):
    refused(lambda: jaxft.load(path), words)


def test_a_link_out_of_a_package(tmp_path, monkeypatch):
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier/__init__.py").write_text("")
    (tmp_path / "carrier/out").symlink_to("/tmp")
    monkeypatch.syspath_prepend(str(tmp_path))
    refused(lambda: jaxft.load("package:carrier/out"), "out is outside of the package carrier")


# Options


@pytest.mark.parametrize(
    "option",
    [
        f"--train.epochs={DIGITS}",
        f"--train.max_steps=0x{'f' * 5000}",
        f"--seed=1{':1' * 20_000}",
        f"--optim.learning_rate={'9' * 900}",
        f"--train.batch_size={NEST}",
        f"--train.batch_size={'- ' * 20_000}",
        f"--train.batch_size={'{a: ' * 20_000}",
        "--train.max_steps=1e300",
        "--train.epochs=1e999",
        f"--{NAME}=1",
        f"--task.name={NAME}",
        f"--plan.preset={NAME}",
    ],
    ids=lambda option: option[:24],
)
def test_options(option):
    text = refused(lambda: cli.load([option]))
    assert option[2:14] in text.replace(" is ", "=")


LAUGHS = "a: &a [1, 1]\n" + "".join(f"{b}: &{b} [{f'*{a}, ' * 9}]\n" for a, b in itertools.pairwise("abcdefghi"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"train: {{epochs: {DIGITS}}}", "a number of more than 300 digits"),
        (f"seed: 0x{'f' * 5000}", "a number of more than 300 digits"),
        (NEST, "brackets inside more than 100 brackets"),
        ("{a: " * 100_000, "brackets inside more than 100 brackets"),
        ("- " * 100_000, "nested too deep"),
        ("? " * 100_000, "nested too deep"),
        (LAUGHS, "more than 1,000,000 values"),
        ("data: &a {text: *a}", "more than 1,000,000 values"),
        ("x: " + "y" * 600_000, "600,003 characters, more than 524,288"),
        ("seed: 2001-99-99", "month must be in 1..12"),
        ("{[a]: 1}", "unhashable"),
        ("train: {batch_size: null}", "train.batch_size is null: must be a whole number"),
        ("data: {null: {a: 2}}", 'unknown option "data.None.a"'),
        ("".join(f"k{i}: 1\n" for i in range(5000)), 'unknown option "k0"'),
    ],
    ids=lambda x: x[:20],
)
def test_configs(tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    refused(lambda: cli.load([str(tmp_path / "c.yaml")]), words)


def test_what_is_nested_too_deep_is_one_line(capsys):
    """Also where no reader knows of it."""

    def deep(_: list[str]) -> None:
        deep(_)

    with pytest.raises(SystemExit) as stop:
        cli.run_main(deep, [])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: a file or an option is nested too deep\n"


@pytest.mark.parametrize("option", ["plan.rules", "plan.lora.targets"])
def test_rules_that_never_end(train_fails, monkeypatch, option):
    monkeypatch.setattr(patterns, "SECONDS", 0.5)
    endless = r"((\w|\.)+)+!"
    value = json.dumps([{"pattern": endless, "trainable": True}]) if option == "plan.rules" else endless
    preset = {"plan.preset": "lora"} if "lora" in option else {}
    train_fails({option: value, **preset}, "takes more than 0.5 seconds to match")


@pytest.mark.parametrize("option", ["target_modules", "exclude_modules", "alpha_pattern"])
def test_an_adapters_patterns_that_never_end(model, tmp_path, monkeypatch, option):
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
def test_numbers_of_an_adapter(model, tmp_path, fields, words):
    directory = tmp_path / "adapter"
    directory.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(model), "r": 2, "target_modules": ["query"]} | fields
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.encoder.layer.0.output.dense"
    save_file({f"{name}.adapter_down.weight": np.ones((2, 24), "f4")}, directory / "adapter_model.safetensors")
    refused(lambda: jaxft.load(str(directory)), words)


# Data


@pytest.mark.parametrize("lines", [True, False], ids=["jsonl", "json"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (DIGITS, "not valid JSON (Exceeds the limit (4300 digits)"),
        (NEST, "not valid JSON (brackets are nested too deep)"),
        ("[" * 900 + "]" * 900, "row 3 has [[["),
        (r'"a \ud800 b"', r"row 3 has 'a \ud800 b' in column"),
        (r'"\udc00\ud800"', "must be text without lone surrogates"),
    ],
)
@pytest.mark.parametrize("column", ["text", "label"])
def test_values_of_rows(tmp_path, column, value, words, lines):
    rows = ['{"text": "a b", "label": "x"}', '{"text": "a c", "label": "y"}']
    text, label = (value if name == column else '"x"' for name in ("text", "label"))
    rows.append(f'{{"text": {text}, "label": {label}}}')
    path = tmp_path / ("rows.jsonl" if lines else "rows.json")
    path.write_text("\n".join(rows) if lines else f"[{', '.join(rows)}]")
    data = replace(Config().data, train=str(path))
    refused(lambda: read_rows(data, "train", needed=["text", "label"]), f"{path}: ", words)


def test_columns_that_are_only_nested(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": %s}\n' % ("[" * 900 + "]" * 900))
    data = replace(Config().data, train=str(tmp_path / "rows.jsonl"))
    refused(lambda: read_rows(data, "train", needed=["text"]), "rows 1 to 1 hold lists or objects more than 30 levels deep")


@pytest.mark.parametrize("name", ["context", "question", "id", "answer"])
def test_half_characters_in_questions(tmp_path, name):
    values = {x: r'"\ud800 b"' if x == name else '"a b"' for x in ("context", "question", "id", "answer")}
    answer = f'{{"text": {values["answer"]}, "answer_start": 0}}'
    question = f'{{"id": {values["id"]}, "question": {values["question"]}, "answers": [{answer}]}}'
    text = f'{{"data": [{{"paragraphs": [{{"context": {values["context"]}, "qas": [{question}]}}]}}]}}'
    (tmp_path / "squad.json").write_text(text)
    data = replace(Config().data, train=str(tmp_path / "squad.json"))
    where = "data[0].paragraphs[0].qas[0]"
    refused(lambda: read_questions(data, "train", labelled=True, misplaced="drop"), where, "without lone surrogates")


def test_labels_that_take_long_to_look_at(tmp_path):
    """Patterns of our own are tried on them: they must not go back over a text again and again."""
    labels = ["9" * 100_000 + "x", "0 1" + " " * 100_000 + "x", "1" * 100_000 + "." + "0" * 100_000 + "x"]
    start = time.process_time()
    assert set(in_order(labels, "here")) == set(labels)
    assert label_values(datasets.Dataset.from_dict({"label": labels}), "label", "here") == labels
    assert time.process_time() - start < 2
