"""Tokenizers that runs/test_family_training.py does not have: Chinese WordPiece, and SentencePiece without its package."""

import json
import re
from pathlib import Path

import datasets
import pytest
from transformers import AutoTokenizer

import jaxft
from jaxft import export
from jaxft.config import DataConfig
from jaxft.core import model_source
from jaxft.core.errors import UserError
from jaxft.data.tokens.encode import encode_texts
from jaxft.data.tokens.tokenizer import CLASSES, load_tokenizer
from jaxft.models.model import make_model
from jaxft.train import train
from tests.support import tiny, vocabularies

CONFIG = tiny.CONFIG | tiny.NO_DROPOUT | {"vocab_size": 21128, "max_position_embeddings": 64}


@pytest.fixture(scope="module")
def chinese(shared_data, tmp_path_factory) -> Path:
    """A BERT with the vocabulary of bert-base-chinese and random weights."""
    directory = tmp_path_factory.mktemp("chinese") / "model"
    model = make_model(CONFIG, "feature-extraction", "here")
    jaxft.save(model, tiny.random_params(model), directory)
    return vocabularies.wordpiece(directory, shared_data / "vocab/bert-base-chinese", lower=True)


@pytest.mark.parametrize("ending", ["", "Fast"])
@pytest.mark.parametrize("kind", CLASSES)
def test_classes_that_are_known_are_those_that_transformers_finds(tmp_path, kind, ending):
    if kind == "roberta":
        vocabularies.trained_byte_level(tmp_path, ["a small river", "stones in the river"])
    else:
        vocabularies.letters(tmp_path, ["river", "stone"])
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": CLASSES[kind] + ending}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    own, expected = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert type(own) is type(expected)
    assert own.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "albert"}))
    assert type(load_tokenizer(tmp_path)) is type(AutoTokenizer.from_pretrained(tmp_path))


@pytest.fixture(scope="module")
def reviews(shared_data, tmp_path_factory) -> Path:
    """Reviews with their labels, tab-separated."""
    lines = (shared_data / "chnsenticorp/dev.tsv").read_text(encoding="utf-8").split("\n")
    path = tmp_path_factory.mktemp("reviews") / "reviews.tsv"
    path.write_text("\n".join(lines[:160]), encoding="utf-8")
    return path


def ids(directory: Path, texts: list[str]) -> list[list[int]]:
    """Token ids as a run gets them."""
    rows = datasets.Dataset.from_dict({"text": texts})
    config = DataConfig(max_length=64, truncation=True, cache=False)
    found = encode_texts(rows, load_tokenizer(directory), directory, config, "here")
    return [found.tokens["input_ids"][a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]


def test_a_chinese_character_is_a_token(chinese, reviews):
    vocabulary = (chinese / "vocab.txt").read_text(encoding="utf-8").split("\n")
    number = {word: i for i, word in enumerate(vocabulary)}
    texts = [line.split("\t")[0] for line in reviews.read_text(encoding="utf-8").split("\n")]
    plain = [text for text in texts if all("\u4e00" <= c <= "\u9fff" or c in "\uff0c\u3002\uff01" for c in text)]
    assert len(plain) > 10
    for text, found in zip(plain, ids(chinese, plain), strict=True):
        expected = [number.get(c, number["[UNK]"]) for c in text][:62]
        assert found == [number["[CLS]"], *expected, number["[SEP]"]]


def test_a_chinese_model_trains_and_its_tokenizer_is_saved_unchanged(chinese, reviews, tmp_path):
    data = {"train": str(reviews), "validation": None, "columns": ["text", "label"], "text": "text", "max_length": 64}
    run, out = tmp_path / "run", tmp_path / "out"
    train(tiny.run_config(chinese, tmp_path, run, data=data, train={"epochs": 1, "batch_size": 32}))
    export.main([str(run), "--output", str(out)])
    texts = [line.split("\t")[0] for line in reviews.read_text(encoding="utf-8").split("\n")]
    for directory in (run / "model", out):
        for name in ("vocab.txt", "tokenizer_config.json"):
            assert (directory / name).read_bytes() == (chinese / name).read_bytes()
        assert ids(directory, texts) == ids(chinese, texts)
        assert jaxft.load(str(directory))[0].labels == ["negative", "positive"]


@pytest.mark.parametrize("name", ["spiece.model", "spm.model", "sentencepiece.bpe.model"])
def test_sentencepiece_without_its_package_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr("transformers.utils.is_sentencepiece_available", lambda: False)
    (tmp_path / name).write_bytes(b"a model")
    with pytest.raises(UserError) as info:
        load_tokenizer(tmp_path)
    message = str(info.value)
    assert f"{tmp_path}: no usable tokenizer: {name} without a tokenizer.json takes the package sentencepiece" in message
    assert "pip install sentencepiece" in message
    assert "\n" not in message


def test_sentencepiece_needs_no_package_if_there_is_a_tokenizer_json(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.utils.is_sentencepiece_available", lambda: False)
    vocabularies.sentencepiece(tmp_path, [f"the river runs over stone {i}" for i in range(50)], size=60)
    (tmp_path / "spiece.model").write_bytes(b"a model")
    assert load_tokenizer(tmp_path).decode(ids(tmp_path, ["the river"])[0], skip_special_tokens=True) == "the river"


def test_every_file_of_a_tokenizer_is_copied(tmp_path):
    """All names of transformers' classes and those in tokenizer_config.json, but no file outside of the folder."""
    import transformers

    folder = Path(transformers.__file__).parent
    sources = [*folder.glob("models/*/tokenization_*.py"), *folder.glob("tokenization_*.py")]
    tables = re.findall(r"VOCAB_FILES_NAMES = \{([^}]*)\}", "".join(path.read_text(encoding="utf-8") for path in sources))
    names = {name for table in tables for name in re.findall(r':\s*"([\w.-]+)"', table)}
    assert len(names) > 15
    assert "bpe.codes" in names
    (tmp_path / "tokenizer_config.json").write_text('{"vocab_file": "words.bin", "merges_file": "../outside", "x_file": 5}')
    for name in [*names, "words.bin", "custom.model", "model.safetensors", "config.json"]:
        (tmp_path / name).touch()
    found = {path.name for path in model_source.tokenizer_files(tmp_path)}
    assert found == names | {"words.bin", "custom.model", "tokenizer_config.json"}
