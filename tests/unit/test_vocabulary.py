"""New words in a tokenizer, another tokenizer in its place, and how the rows of their embeddings start."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxft.config import VocabularyConfig
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.models.model import make_model
from jaxft.models.vocab_resize import Sources, join_rows, split_rows, with_vocabulary
from jaxft.run.run_tokenizer import Vocabulary, open_vocabulary
from tests.support import tiny, vocabularies

WORDS = ["the", "river", "runs", "a", "sun"]
KINDS = {
    "WordPiece": lambda path: vocabularies.letters(path, WORDS),
    "byte-level": lambda path: vocabularies.trained_byte_level(path, [" ".join(WORDS)] * 9, 300),
    "SentencePiece": lambda path: vocabularies.unigram(path, WORDS),
}


def make(kind: str, directory: Path) -> Path:
    """A tokenizer of a kind, alone in a directory."""
    directory.mkdir()
    return KINDS[kind](directory)


def opened(directory: Path, texts=(), **options) -> Vocabulary:
    return open_vocabulary(VocabularyConfig(**options), directory, None, lambda: texts)


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def replaced(sequence: list[int], old: list[int], new: int) -> list[int]:
    """The sequence with every run of ids `old` as one id."""
    text = " ".join(map(str, sequence)) + " "
    return [int(x) for x in text.replace(" ".join(map(str, old)) + " ", f"{new} ").split()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_word_is_one_token_if_it_is_a_whole_word(kind, tmp_path):
    old = load_tokenizer(make(kind, tmp_path / "old"))
    found = opened(tmp_path / "old", words=["quark", "gluon"])
    new, first = found.tokenizer, len(old)
    assert new.convert_tokens_to_ids(["quark", "gluon"]) == [first, first + 1]
    assert len(new) == first + 2
    text = "the quark runs over quark gluon river"
    expected = replaced(replaced(ids(old, text), ids(old, " quark"), first), ids(old, " gluon"), first + 1)
    assert ids(new, text) == expected
    assert Counter(ids(new, "quark, the (gluon) quark."))[first] == 2
    assert not {first, first + 1} & {*ids(new, "quarks antiquark gluonic")}
    again = load_tokenizer(found.directory)  # what AutoTokenizer makes of the files that a model is saved with
    assert again.get_vocab() == new.get_vocab()
    assert again(text)["input_ids"] == new(text)["input_ids"]
    assert found.directory != tmp_path / "old"
    assert "quark" not in load_tokenizer(tmp_path / "old").get_vocab()


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_word_of_a_sentence_keeps_its_word_number(kind, tmp_path):
    """Token classification encodes lists of words."""
    make(kind, tmp_path / "old")
    new = opened(tmp_path / "old", words=["quark"]).tokenizer
    encoding = new.backend_tokenizer.encode([" the", " quark", " runs"], is_pretokenized=True, add_special_tokens=False)
    at = encoding.ids.index(len(new) - 1)
    assert encoding.word_ids[at] == 1
    assert set(encoding.word_ids) == {0, 1, 2}
    assert encoding.word_ids.count(1) == 1


def test_new_words_ignore_case_and_chinese_ones_need_no_spaces(tmp_path):
    make("WordPiece", tmp_path / "old")
    new = opened(tmp_path / "old", words=["quark", "新冠", "il-2"]).tokenizer
    first = len(new) - 3
    assert ids(new, "QUARK Quark quárk") == [first] * 3
    assert ids(new, "the il-2, river")[1] == first + 2
    chinese = ids(new, "患新冠肺炎新冠")
    assert [i for i in chinese if i >= first] == [first + 1] * 2
    assert len(chinese) == 5


def test_bad_words_are_refused(tmp_path):
    directory = make("WordPiece", tmp_path / "old")
    byte_level = make("byte-level", tmp_path / "bytes")
    file = tmp_path / "words.txt"
    cases = [
        ({"words": ["quark", "gluon", "quark"]}, "vocabulary.words: more than once: quark"),
        ({"words": []}, "vocabulary.words: no words"),
        ({"words": ["the", "quark", "river"]}, "vocabulary.words: the vocabulary already has the, river"),
        ({"words": ["Quark"]}, r"vocabulary.words: the tokenizer never sees Quark \(write quark\)"),
        ({"words": ["top quark", ""]}, "vocabulary.words: not a word: 'top quark', ''"),
        ({"most_frequent": 3}, "vocabulary.most_frequent is 3, but only 2 words of the training texts split into 3 pieces"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message):
            opened(directory, ["the quark, ab gluon river 12345"], **options)
    for content, message in [
        (b"quark\nquark\n", "more than once: quark"),
        (b"\n \n", "no words"),
        (b"quark\nriver\n", "already has river"),
        (b"qu\xff\n", r"line 1 is not UTF-8 \(byte 0xff\)"),
    ]:
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"vocabulary\.file {file}: .*{message}"):
            opened(directory, file=str(file))
    with pytest.raises(UserError, match=r"nowhere.txt: cannot be read: No such file"):
        opened(directory, file=str(tmp_path / "nowhere.txt"))
    file.write_text("gluon\n")
    with pytest.raises(UserError, match=r"words.txt: more than once: gluon"):
        opened(directory, words=["gluon"], file=str(file))
    with pytest.raises(UserError, match="already has the, river"):  # in a text they begin with a space
        opened(byte_level, words=["the", "river"])
    (directory / "vocab.txt").write_text((directory / "vocab.txt").read_text() + "the\nriver\n")
    with pytest.raises(UserError, match="gives new words ids that it uses already"):
        opened(directory, words=["quark"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_most_frequent_split_words_are_added(kind, tmp_path):
    old = load_tokenizer(make(kind, tmp_path / "old"))
    counts = {"quark": 5, "gluon": 7, "boson": 5, "hadronic": 9, "muon": 1, "the": 50, "river": 30, "1234567": 8}
    words = [word for word, n in counts.items() for _ in range(n)]
    random.Random(0).shuffle(words)
    texts = [" ".join(words[i : i + 9]) + "." for i in range(0, len(words), 9)]
    assert len(ids(old, " river")) < 3  # in none of them is it split into many
    found = opened(tmp_path / "old", texts, most_frequent=4, min_pieces=3, words=["boson"])
    assert list(found.tokenizer.get_added_vocab())[-5:] == ["boson", "hadronic", "gluon", "quark", "muon"]
    assert found.tokenizer.convert_tokens_to_ids(["boson", "hadronic", "muon"]) == [len(old), len(old) + 1, len(old) + 4]
    longest = max(len(ids(old, f" {word}")) for word in ("hadronic", "gluon", "quark"))
    least = opened(tmp_path / "old", texts, most_frequent=1, min_pieces=longest).tokenizer
    assert least.convert_ids_to_tokens(len(old)) == "hadronic"


def model_of(directory: Path, *, tied: bool = True, kind: str = "fill-mask"):
    config = tiny.CONFIG | {"vocab_size": len(load_tokenizer(directory)), "tie_word_embeddings": tied}
    model = make_model(config, kind, "here")
    return model, tiny.random_params(model)


def tables(params) -> dict[str, np.ndarray]:
    """All parameters with one row per word, as [words, ...]."""
    flat = tree.unstack(params)
    found = {name: x for name, x in flat.items() if "word_embeddings" in name or ".decoder." in name}
    return {name: x.T if name.endswith("kernel") else x for name, x in found.items()}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_new_rows_are_means_of_pieces(kind, tied, tmp_path):
    old = load_tokenizer(make(kind, tmp_path / "old"))
    model, params = model_of(tmp_path / "old", tied=tied)
    found = opened(tmp_path / "old", words=["quark", "gluon"])
    made, new = with_vocabulary(model, params, found.sources(), "mean", 0)
    before, after, size = tables(params), tables(new), len(old)
    assert len(before) == (2 if tied else 3)
    for name, table in before.items():
        np.testing.assert_array_equal(after[name][:size], table)
        expected = [table[ids(old, f" {word}")].mean(0) for word in ("quark", "gluon")]
        np.testing.assert_allclose(after[name][size:], expected, rtol=1e-6, atol=1e-8)
    flat, abstract = tree.flatten(new), tree.flatten(made.abstract())
    for path, x in tree.flatten(params).items():
        assert ".".join(path) in before or np.array_equal(flat[path], x)
    assert {path: x.shape for path, x in flat.items()} == {path: x.shape for path, x in abstract.items()}
    assert made.hf_config["vocab_size"] == size + 2


def test_rows_beyond_the_tokenizer_are_dropped(tmp_path):
    make("WordPiece", tmp_path / "old")
    model, params = model_of(tmp_path / "old")
    size = model.hf_config["vocab_size"]
    padded = make_model(model.hf_config | {"vocab_size": size + 7}, "fill-mask", "here")
    more = tiny.random_params(padded)
    made, new = with_vocabulary(padded, more, opened(tmp_path / "old", words=["quark"]).sources(), "mean", 0)
    assert made.hf_config["vocab_size"] == size + 1
    for name, table in tables(new).items():
        assert len(table) == size + 1
        np.testing.assert_array_equal(table[:size], tables(more)[name][:size])
    assert not np.allclose(tables(new)["encoder.embeddings.word_embeddings.embedding"][size], 0)
    assert params.keys() == new.keys()


def test_new_rows_may_be_gaussian_or_random(tmp_path):
    """Many new words, so that their distribution can be measured."""
    model, params = model_of(make("WordPiece", tmp_path / "old"))
    rng = np.random.default_rng(0)
    words = params["encoder"]["embeddings"]["word_embeddings"]
    size, width = words["embedding"].shape
    mix = rng.normal(size=(width, width)) / np.sqrt(width)  # features that go together
    words["embedding"] = (rng.normal(0.3, 1, (size, width)) @ mix).astype(np.float32)
    table, count = words["embedding"], 40_000
    sources = Sources(np.r_[np.arange(size), -np.ones(count, int)], {}, {})
    drawn = tables(with_vocabulary(model, params, sources, "gaussian", 1)[1])
    new = drawn["encoder.embeddings.word_embeddings.embedding"][size:]
    covariance = np.cov(table, rowvar=False, bias=True)
    assert np.abs(new.mean(0) - table.mean(0)).max() < 5 * table.std(0).max() / np.sqrt(count)
    assert np.abs(np.cov(new, rowvar=False) - covariance).max() < 0.04 * np.diag(covariance).max()
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() > 0.2 * np.diag(covariance).max()
    bias = drawn["heads.main.decoder.bias"]
    assert bias[size:].std() == pytest.approx(bias[:size].std(), rel=0.05)
    again, other = (tables(with_vocabulary(model, params, sources, "gaussian", seed)[1]) for seed in (1, 2))
    for name, x in drawn.items():
        np.testing.assert_array_equal(x, again[name])
        assert not np.array_equal(x, other[name])
    made = tables(with_vocabulary(model, params, sources, "random", 1)[1])
    new = made["encoder.embeddings.word_embeddings.embedding"][size:]
    assert new.std() == pytest.approx(tiny.CONFIG["initializer_range"], rel=0.02)
    assert abs(new.mean()) < 0.001
    assert not made["heads.main.decoder.bias"][size:].any()
    np.testing.assert_array_equal(made["encoder.embeddings.word_embeddings.embedding"][:size], table)


def test_split_rows_can_be_joined_again(tmp_path):
    model, params = model_of(make("WordPiece", tmp_path / "old"), tied=False)
    apart, parts = split_rows(model, params, 3)
    size = model.hf_config["vocab_size"]
    flat, abstract = tree.flatten(parts), tree.flatten(apart.abstract())
    assert {path: x.shape for path, x in flat.items()} == {path: x.shape for path, x in abstract.items()}
    assert flat["encoder", "embeddings", "word_embeddings", "new_embedding"].shape == (3, tiny.CONFIG["hidden_size"])
    assert flat["heads", "main", "decoder", "new_kernel"].shape == (tiny.CONFIG["hidden_size"], 3)
    assert flat["heads", "main", "decoder", "bias"].shape == (size - 3,)
    whole = tree.flatten(join_rows(parts))
    assert list(whole) == list(tree.flatten(params))
    for path, x in tree.flatten(params).items():
        np.testing.assert_array_equal(whole[path], x)


OTHER_WORDS = ["the", "river", "sun", "quark", "bridge", "stone"]


@pytest.mark.parametrize("kind", KINDS)
def test_another_vocabulary_keeps_the_rows_of_words_that_both_have(kind, tmp_path):
    """WordPiece replaces every kind, whatever marks that kind puts before or into words."""
    old = load_tokenizer(make(kind, tmp_path / "old"))
    vocabularies.letters(tmp_path, OTHER_WORDS)
    found = opened(tmp_path / "old", tokenizer=str(tmp_path))
    new, vocabulary = found.tokenizer, load_tokenizer(tmp_path).get_vocab()
    assert new.get_vocab() == vocabulary
    model, params = model_of(tmp_path / "old")
    sources = found.sources()
    made, after = with_vocabulary(model, params, sources, "mean", 0)
    assert made.hf_config["vocab_size"] == len(vocabulary)
    assert made.hf_config["pad_token_id"] == new.pad_token_id
    for name, table in tables(params).items():
        rows = tables(after)[name]
        for word in OTHER_WORDS:
            np.testing.assert_allclose(rows[vocabulary[word]], table[ids(old, f" {word}")].mean(0), rtol=1e-5, atol=1e-7)
        kept = [word for word in OTHER_WORDS if len(ids(old, f" {word}")) == 1]
        assert kept
        for word in kept:
            assert sources.old_ids[vocabulary[word]] == ids(old, f" {word}")[0]
            np.testing.assert_array_equal(rows[vocabulary[word]], table[ids(old, f" {word}")[0]])
        for role in ("pad", "unk", "cls", "sep", "mask"):
            mine, theirs = (getattr(t, f"{role}_token_id") for t in (new, old))
            np.testing.assert_array_equal(rows[mine], table[theirs])
    continuation = {"WordPiece": "##n", "byte-level": "n", "SentencePiece": "n"}[kind]
    assert sources.old_ids[vocabulary["##n"]] == old.get_vocab()[continuation]
    assert sources.new == len(vocabulary) - (sources.old_ids >= 0).sum() > 0
    assert not sources.appended


def test_a_tokenizer_that_extends_the_old_one_keeps_its_ids(tmp_path):
    model, params = model_of(make("WordPiece", tmp_path / "old"))
    bigger = opened(tmp_path / "old", words=["quark", "gluon"])
    found = opened(tmp_path / "old", tokenizer=str(bigger.directory), words=["boson"])
    sources = found.sources()
    assert (sources.new, sources.appended, sources.token_ids) == (3, 3, {})
    assert with_vocabulary(model, params, sources, "mean", 0)[0].hf_config["vocab_size"] == len(found.tokenizer)


def test_positions_counted_from_padding_must_stay(tmp_path):
    """RoBERTa's positions begin after the padding id."""
    make("byte-level", tmp_path / "old")
    vocabularies.letters(tmp_path, OTHER_WORDS)
    size = len(load_tokenizer(tmp_path / "old"))
    config = tiny.CONFIG | {"model_type": "roberta", "vocab_size": size, "pad_token_id": 1}
    model = make_model(config, "fill-mask", "here")
    sources = opened(tmp_path / "old", tokenizer=str(tmp_path)).sources()
    with pytest.raises(UserError, match=r"counts positions from its padding id 1, but .* new vocabulary is 0"):
        with_vocabulary(model, tiny.random_params(model), sources, "mean", 0)
