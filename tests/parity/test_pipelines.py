"""The results of `jaxft.pipeline` are those of transformers' pipelines, for odd texts and real vocabularies."""
# ruff: noqa: E402

import json
from numbers import Real
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import transformers

import jaxft
from tests.support import SHARED, vocabularies
from tests.support.odd_texts import odd_texts
from tests.support.zoo_torch import torch_model

VOCABULARIES = SHARED / "data/vocab"
pytestmark = pytest.mark.skipif(not VOCABULARIES.is_dir(), reason=f"needs the vocabularies in {VOCABULARIES}")
LONGEST = 128
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
FEW = [("uncased", 20), ("roberta", 20)]
MANY = [pytest.param(name, 1000, marks=pytest.mark.slow) for name in ("uncased", "cased", "chinese", "roberta")]


def write_model(folder: Path, vocabulary: str, kind: str, labels: list[str] | None = None) -> str:
    """A random model of Hugging Face's with a real vocabulary."""
    folder.mkdir()
    if vocabulary == "roberta":
        vocabularies.byte_level(folder, VOCABULARIES / "roberta-base")
        own = {"vocab_size": 50265, "pad_token_id": 1, "type_vocab_size": 1, "max_position_embeddings": LONGEST + 2}
    else:
        vocabularies.wordpiece(folder, VOCABULARIES / f"bert-base-{vocabulary}", lower=vocabulary != "cased")
        size = len((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
        own = {"vocab_size": size, "max_position_embeddings": LONGEST}
    if labels:
        own |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    family = "roberta" if vocabulary == "roberta" else "bert"
    torch_model(family, kind, SIZES | own, noise=0.3).save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": LONGEST}))
    return str(folder)


def assert_close(ours, theirs):
    """Everything is equal; numbers that are not whole differ by at most 1e-5, above 1 by at most this share of them."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for name in theirs:
            assert_close(ours[name], theirs[name])
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other)
    elif isinstance(theirs, Real) and not isinstance(theirs, int):
        assert ours == pytest.approx(float(theirs), rel=1e-5, abs=1e-5)
    else:
        assert ours == theirs


@pytest.mark.parametrize(("vocabulary", "count"), [*FEW, *MANY])
def test_text_classification(vocabulary, count, tmp_path):
    path = write_model(tmp_path / "model", vocabulary, "text-classification", ["a", "b", "c"])
    ours, theirs = jaxft.pipeline(path), transformers.pipeline("text-classification", model=path)
    texts, cut = odd_texts(count), {"truncation": True, "max_length": LONGEST}
    assert_close(ours(texts), theirs(texts, **cut))
    assert_close(ours(texts[0]), theirs(texts[0], **cut))
    pair = {"text": texts[0], "text_pair": texts[1]}
    assert_close(ours(pair), theirs(pair, **cut))
    for options in (
        {"top_k": 2},
        {"top_k": None, "function_to_apply": "sigmoid"},
        {"function_to_apply": "none", "top_k": 1},
    ):
        assert_close(ours(texts[:9], **options), theirs(texts[:9], **options, **cut))


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize(("vocabulary", "count"), [*FEW, *MANY])
def test_token_classification(vocabulary, count, tmp_path):
    path = write_model(tmp_path / "model", vocabulary, "token-classification", TAGS)
    ours, theirs = jaxft.pipeline(path), transformers.pipeline("token-classification", model=path)
    texts = odd_texts(count, seed=1)
    for strategy in ("none", "simple", "first", "average", "max"):
        assert_close(ours(texts, aggregation_strategy=strategy), theirs(texts, aggregation_strategy=strategy))
    windows = {"aggregation_strategy": "simple", "stride": 20}
    long = odd_texts(count // 10 + 3, seed=2, most=150)
    assert_close(ours(long, **windows), theirs(long, **windows))
    words = {"is_split_into_words": True, "aggregation_strategy": "first"}
    sentences = [text.split() for text in texts[:9]]
    assert_close(ours(sentences, **words), theirs(sentences, **words))
    assert_close(ours(texts[0], ignore_labels=["B-PER"]), theirs(texts[0], ignore_labels=["B-PER"]))


@pytest.mark.parametrize(("vocabulary", "count"), [*FEW, *MANY])
def test_fill_mask(vocabulary, count, tmp_path):
    path = write_model(tmp_path / "model", vocabulary, "fill-mask")
    ours, theirs = jaxft.pipeline(path), transformers.pipeline("fill-mask", model=path)
    mask = theirs.tokenizer.mask_token
    ends = [f" {mask}", f" {mask} and {mask}.", f"{mask}"]
    texts = [text.replace("[MASK]", "") + ends[i % 3] for i, text in enumerate(odd_texts(count, seed=3))]
    texts = [text for text in texts if len(theirs.tokenizer(text)["input_ids"]) <= LONGEST]
    assert_close(ours(texts), theirs(texts))
    assert_close(ours(texts[0], top_k=2), theirs(texts[0], top_k=2))
    targets = {"targets": ["the", "river", "Köln"], "top_k": 2}
    assert_close(ours(texts[:9], **targets), theirs(texts[:9], **targets))


@pytest.mark.parametrize(("vocabulary", "count"), [*FEW, *MANY])
def test_feature_extraction(vocabulary, count, tmp_path):
    path = write_model(tmp_path / "model", vocabulary, "text-classification", ["a", "b"])  # its head is not used
    ours, theirs = jaxft.pipeline(path, "feature-extraction"), transformers.pipeline("feature-extraction", model=path)
    texts = odd_texts(count, seed=4)
    assert_close(ours(texts), theirs(texts, tokenize_kwargs={"truncation": True, "max_length": LONGEST}))
    vectors = ours(texts, pooling="mean", return_tensors=True)
    assert [x.shape for x in vectors] == [(SIZES["hidden_size"],)] * count
    assert vectors[0] == pytest.approx(ours(texts[0], return_tensors=True)[0].mean(axis=0), abs=1e-5)
