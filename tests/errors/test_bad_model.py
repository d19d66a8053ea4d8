"""A model or a teacher that cannot be used: one line that names the file or the field; nothing is written."""

import shutil

import pytest

from jaxft.core.errors import UserError
from jaxft.models.weights.tensor_files import open_weights, read_model_config
from tests.support import tiny
from tests.support.damage import edit_config, flip, half, to_msgpack


def test_max_length_beyond_the_positions(train_fails):
    train_fails({"data.max_length": 64}, "data.max_length is 64", "48 positions")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no/such/dir", ["no/such/dir: no such directory"]),
        ("bert-base-nowhere", ["bert-base-nowhere", "hub"]),
        ("package:no_such_package/model", ["no_such_package", "not installed"]),
        ("package:jaxft/nothing", ["no folder nothing"]),
        (None, ["model.path is not set"]),
    ],
)
def test_model_that_is_not_there(train_fails, path, words):
    train_fails({"model.path": path}, *words)


def test_model_that_is_a_file(train_fails, tiny_model):
    train_fails({"model.path": tiny_model / "config.json"}, "is a file", "directory")


@pytest.mark.parametrize("damage", [half, flip, lambda p: p.write_bytes(b"")], ids=["half", "flip", "empty"])
@pytest.mark.parametrize("name", ["model.safetensors", "flax_model.msgpack", "config.json"])
def test_damaged_model_file(train_fails, tmp_path, name, damage, tiny_model):
    directory = shutil.copytree(tiny_model, tmp_path / "m")
    if name == "flax_model.msgpack":
        to_msgpack(directory)
    damage(directory / name)
    train_fails({}, name, "not ", model=directory)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "brt"}, ['"brt"', 'did you mean "bert"']),
        ({"model_type": None}, ["model_type"]),
        ({"model_type": ["bert"]}, ["model_type"]),
        ({"hidden_size": 48}, ["do not fit", "config.json asks for"]),
        ({"hidden_size": 25}, ["hidden_size 25", "num_attention_heads 3"]),
        ({"num_attention_heads": 0}, ["num_attention_heads is 0"]),
        ({"num_hidden_layers": 3}, ["do not fit", "lacks", "layer.2."]),
        ({"num_hidden_layers": 1}, ["do not fit", "has no", "layer.1."]),
        ({"vocab_size": "many"}, ["vocab_size is 'many'", "whole number"]),
        ({"layer_norm_eps": "small"}, ["layer_norm_eps is 'small'", "number"]),
        ({"hidden_act": "gelo"}, ['"gelo"', "did you mean"]),
        ({"position_embedding_type": "relative_key"}, ["position_embedding_type", "absolute"]),
        ({"id2label": {"a": "b"}}, ["id2label", "numbers"]),
    ],
)
def test_config_json_that_does_not_fit(train_fails, tiny_model, tmp_path, changes, words):
    directory = shutil.copytree(tiny_model, tmp_path / "m")
    edit_config(directory, **changes)
    train_fails({}, *words, model=directory)


@pytest.mark.parametrize(
    ("missing", "words"),
    [("config.json", ["no config.json"]), ("model.safetensors", ["no weights"]), ("vocab.txt", ["no usable tokenizer"])],
)
def test_model_directory_that_lacks_a_file(train_fails, tiny_model, tmp_path, missing, words):
    directory = shutil.copytree(tiny_model, tmp_path / "m")
    (directory / missing).unlink()
    train_fails({}, str(directory), *words, model=directory)


def test_pickled_weights_are_never_opened(train_fails, tiny_model, tmp_path):
    directory = shutil.copytree(tiny_model, tmp_path / "m")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    train_fails({}, "pytorch_model.bin", "never opens", model=directory)


def test_the_advice_about_a_pickle_keeps_the_models_class(tmp_path):
    """The class is that of config.json if it is one of transformers' PyTorch models."""
    directory = tiny.write_model(tmp_path / "m", labels=tiny.LABELS)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    for named, told in (("BertForSequenceClassification",) * 2, ("FlaxBertModel", "AutoModel"), ('M"; rm x', "AutoModel")):
        edit_config(directory, architectures=[named])
        with pytest.raises(UserError, match=rf"import transformers as t; t\.{told}\.from_pretrained\('.*/m'\)\.save"):
            open_weights(directory)


def test_a_model_inside_a_folder_is_pointed_at(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "st" / "0_Transformer")
    with pytest.raises(UserError, match=r"no config\.json; it is in a folder: give .*/st/0_Transformer$"):
        read_model_config(tmp_path / "st")


def test_tokenizer_larger_than_the_vocabulary(train_fails, tiny_model, tmp_path):
    directory = shutil.copytree(tiny_model, tmp_path / "m")
    with open(directory / "vocab.txt", "a") as file:
        file.writelines(f"word{i}\n" for i in range(50))
    train_fails({}, "tokenizer has", "vocabulary", "41", model=directory)


# Distillation


def test_teacher_with_other_labels(train_fails, tmp_path):
    teacher = tiny.write_model(tmp_path / "teacher", labels=["no", "yes"])
    train_fails({"distill.teacher": teacher}, "distill.teacher", "no, yes (2)", "angry, calm, merry (3)")
    teacher = tiny.write_model(tmp_path / "turned", labels=tiny.LABELS[::-1])
    train_fails({"distill.teacher": teacher}, "distill.teacher", "merry, calm, angry (3)", "in its order")


def test_teacher_without_a_classifier(train_fails, tiny_model):
    train_fails({"distill.teacher": tiny_model}, "distill.teacher", "fine-tuned text-classification")


def test_teacher_with_fewer_positions(train_fails, tmp_path):
    teacher = tiny.write_model(tmp_path / "teacher", labels=tiny.LABELS, max_position_embeddings=16)
    train_fails({"distill.teacher": teacher}, "data.max_length is 32", "distill.teacher", "16 positions")


def test_teacher_that_is_not_there(train_fails, tmp_path):
    train_fails({"distill.teacher": tmp_path / "nobody"}, "distill.teacher", "nobody", "no such directory")
