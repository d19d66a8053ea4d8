"""From words to pieces and windows: every word belongs to one window, the one that shows most of its context."""

import itertools
import json
import random

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.formats.sentences import Sentences
from jaxft.data.formats.split_text import split_text
from jaxft.data.tokens import words
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.evaluation.mistake_weights import of_tags
from tests.support import tiny, vocabularies

ODD = ["", "\u200b", "\x00"]  # BERT's tokenizer throws control characters away


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wordpiece")
    tiny.write_tokenizer(folder)
    return folder


def sentences(seed: int, count: int = 12) -> list[list[str]]:
    """Sentences of 1 to 40 words, some of several pieces, some of none."""
    rng = random.Random(seed)
    known = [*(w for w in tiny.WORDS if w[0] != "#"), "brightly", "underlyly", "unheard", *ODD]
    return [rng.choices(known, k=rng.choice([1, 3, 10, 40])) for _ in range(count)]


def encode(rows: list[list[str]], directory, *, max_length: int = 16, stride: int | None = None, **options):
    data = Dataset.from_dict({"words": rows, "row": [[i] * len(row) for i, row in enumerate(rows, 1)]})
    config = DataConfig(**{"max_length": max_length, "stride": stride, "truncation": True, "cache": False} | options)
    tokenizer = load_tokenizer(directory)
    return words.encode_words(data, tokenizer, directory, config, "a.jsonl"), tokenizer


@pytest.mark.parametrize(("max_length", "stride"), [(16, None), (16, 0), (12, 9), (48, 5), (7, 1)])
def test_windows_are_hugging_faces_and_every_word_belongs_to_one(directory, max_length, stride):
    rows = sentences(1)
    pieces, tokenizer = encode(rows, directory, max_length=max_length, stride=stride)
    stride = max_length // 4 if stride is None else stride
    theirs = tokenizer(
        rows,
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
    )
    offsets = pieces.examples.offsets
    ids = [pieces.examples.tokens["input_ids"][a:b].tolist() for a, b in itertools.pairwise(offsets)]
    assert ids == theirs["input_ids"]
    assert (len(ids) > len(rows)) == (max_length < 48)
    assert pieces.sizes.tolist() == [len(row) for row in rows]
    first = pieces.first
    flat = [word for row in rows for word in row]
    assert len(first) == len(flat)
    for token, word in zip(first, flat, strict=True):
        alone = tokenizer(word, add_special_tokens=False)["input_ids"]
        assert (token < 0) == (not alone) == (word in ODD)
        if alone:
            assert pieces.examples.tokens["input_ids"][token] == alone[0]
    known = first[first >= 0]
    assert len(set(known.tolist())) == len(known)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=20).filter(lambda x: sum(x) > 0),
    size=st.integers(2, 9),
    data=st.data(),
)
def test_a_word_belongs_to_the_window_with_most_context(sizes, size, data):
    stride = data.draw(st.integers(0, size - 1))
    pieces = np.repeat(np.arange(len(sizes)), sizes)
    starts = [0]
    while starts[-1] + size < len(pieces):
        starts.append(starts[-1] + size - stride)
    windows = [np.array([-1, *pieces[s : s + size], -1]) for s in starts]
    found = words.owned_words(windows, size - stride)
    for word in set(pieces.tolist()):
        where = np.flatnonzero(pieces == word)
        context = [
            min(where[0] - s, s + min(size, len(pieces) - s) - 1 - where[-1]) if s <= where[0] < s + size else -99
            for s in starts
        ]
        mine = [i for i, own in enumerate(found) if (own == word).any()]
        assert mine == [int(np.argmax(context))]
        assert found[mine[0]].tolist().count(word) == windows[mine[0]].tolist().count(word)
    for own, window in zip(found, windows, strict=True):
        assert ((own == window) | (own == -1)).all()


def test_a_word_longer_than_a_window_belongs_to_one_with_its_first_piece(directory):
    pieces, _ = encode([["sun", "bright" + "ly" * 30, "sun"]], directory, max_length=10, stride=3)
    assert (pieces.first >= 0).all()
    lengths = np.diff(pieces.examples.offsets)
    assert lengths.max() == 10
    assert (pieces.owners == 1).sum() < 31


def test_without_truncation_a_sentence_must_fit_into_a_window(directory):
    with pytest.raises(UserError, match=r"a\.jsonl: the sentence at row 2 has more than data\.max_length 6 tokens"):
        encode([["sun"], ["sun"] * 5], directory, max_length=6, truncation=False)
    assert len(encode([["sun"] * 4], directory, max_length=6, truncation=False)[0].examples) == 1


def test_a_sentence_that_does_not_fit_is_named_by_its_file(directory):
    found = Sentences("row")
    for name, rows in (("a.jsonl", [["sun"]] * 2), ("b.jsonl", [["sun"], ["sun"] * 5])):
        more = Sentences("row", files=[(name, len(rows))])
        for i, sentence in enumerate(rows, 1):
            more.add_sentence(sentence, [], i)
        found.extend(more)
    config = DataConfig(max_length=6, truncation=False, cache=False)
    with pytest.raises(UserError, match=r"^b\.jsonl: the sentence at row 2 has more"):
        words.encode_words(found.rows(labelled=False), load_tokenizer(directory), directory, config, "a.jsonl, b.jsonl")


def test_a_stride_that_does_not_fit_is_refused(directory):
    with pytest.raises(UserError, match=r"data\.stride is 5: must be below 4"):
        encode([["sun"]], directory, max_length=6, stride=5)


def test_a_slow_tokenizer_is_refused(tmp_path):
    class CharacterTokenizer:
        is_fast = False

    with pytest.raises(UserError, match=r"CharacterTokenizer cannot say which word .* needs a fast tokenizer"):
        words.encode_words(None, CharacterTokenizer(), tmp_path, DataConfig(), "x")


TEXTS = ["the old bridge runs over the river", "a bright sun and the sun ran under the old stone bridge"] * 3


def byte_level(folder, *, regex: bool):
    """A byte-level tokenizer like RoBERTa's, trained on TEXTS; with `regex` off it is cut like those of newer models."""
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if not regex:
        gap = pre_tokenizers.Split(Regex(" ?[a-z]+|."), "isolated")
        cut = pre_tokenizers.Sequence([gap, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    return vocabularies._config(folder, {"tokenizer_class": "PreTrainedTokenizerFast", **vocabularies.ROBERTA})


@pytest.mark.parametrize("regex", [True, False])
def test_byte_level_words_begin_with_their_space(tmp_path, regex):
    """As Hugging Face does with add_prefix_space, even if the tokenizer's own file does not set it."""
    rows = [text.split() for text in TEXTS[:2]]
    pieces, tokenizer = encode(rows, byte_level(tmp_path, regex=regex), max_length=48)
    right = [tokenizer(" " + text)["input_ids"] for text in TEXTS[:2]]
    assert pieces.examples.tokens["input_ids"].tolist() == [i for row in right for i in row]
    assert "\u0120bridge" in tokenizer.convert_ids_to_tokens(right[1])
    assert tokenizer("bridge")["input_ids"] != tokenizer(" bridge")["input_ids"]  # the tokenizer itself is unchanged
    if regex:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        assert tokenizer(rows, is_split_into_words=True)["input_ids"] == right


@pytest.mark.parametrize("prefix", [True, False])
def test_byte_level_words_keep_the_spaces_of_their_text(tmp_path, prefix):
    """Whether a word begins with a space depends on the text alone, not on the tokenizer's settings."""
    directory = byte_level(tmp_path, regex=True)
    text = "the river, under (a bridge) runs."
    right = load_tokenizer(directory)(" " + text)["input_ids"]
    state = json.loads((directory / "tokenizer.json").read_text())
    state["pre_tokenizer"]["add_prefix_space"] = prefix
    (directory / "tokenizer.json").write_text(json.dumps(state))
    tokenizer = load_tokenizer(directory)
    sentences = Sentences("row")
    sentences.add_text(text, split_text(text, "punctuation"), [], 1)
    sentences.add_sentence(["bridge"], [], 2)
    config = DataConfig(max_length=64, truncation=True, cache=False)
    pieces = words.encode_words(sentences.rows(labelled=False), tokenizer, directory, config, "x")
    ids = pieces.examples.tokens["input_ids"].tolist()
    assert ids[: len(right)] == right
    assert tokenizer.decode(ids[len(right) :], skip_special_tokens=True) == " bridge"


def test_sentencepiece_words_begin_with_their_space(tmp_path):
    directory = vocabularies.sentencepiece(tmp_path, TEXTS, size=60)
    pieces, tokenizer = encode([text.split() for text in TEXTS[:2]], directory, max_length=64)
    right = [i for text in TEXTS[:2] for i in tokenizer(text)["input_ids"]]
    assert pieces.examples.tokens["input_ids"].tolist() == right


def test_cached_windows_depend_on_words_and_options(directory, monkeypatch):
    monkeypatch.setenv("JAXFT_CACHE", str(directory / "cache"))
    rows = sentences(2)
    kept, _ = encode(rows, directory, cache=True)
    monkeypatch.setattr(words, "_tokenise", lambda *_: pytest.fail("tokenised again"))
    again, _ = encode(rows, directory, cache=True)
    assert np.array_equal(again.owners, kept.owners)
    assert np.array_equal(again.first, kept.first)
    for other in ({"max_length": 15}, {"stride": 3}, {"truncation": False}):
        with pytest.raises(pytest.fail.Exception):
            encode(rows, directory, cache=True, **other)


@pytest.mark.parametrize("byte_level", [False, True])
def test_mistakes_are_weighed_on_the_tokens_of_the_model(directory, byte_level, tmp_path):
    """Byte-level tokenizers without add_prefix_space, as RoBERTa's, and sentences of several windows."""
    rows = sentences(3)
    if byte_level:
        directory = vocabularies.trained_byte_level(tmp_path, [" ".join(row) for row in rows])
    pieces, tokenizer = encode(rows, directory)
    offsets, owners, sizes = pieces.examples.offsets, pieces.owners, pieces.sizes
    marked = [{"gold": ["O"] * len(row), "prediction": ["B"] * len(row), "words": row} for row in rows]
    found = of_tags(marked, ["O", "B"], tokenizer, DataConfig(max_length=16))
    ids = [pieces.examples.tokens["input_ids"][a:b].tolist() for a, b in itertools.pairwise(offsets)]
    assert [x.ids for x in found.encodings] == ids
    assert len(ids) > len(rows)
    first = np.zeros(len(owners), np.float32)
    first[pieces.first[pieces.first >= 0]] = 1
    weights = [row[: len(x)] for row, x in zip(found.weights["logits"], ids, strict=True)]
    np.testing.assert_array_equal(np.concatenate(weights), np.stack([-first, first], 1))
    assert [[word.strip(" ") for _, some in texts for word, _ in some] for texts in found.texts] == rows
    assert [len(row) for row in rows] == sizes.tolist()


def test_words_that_follow_without_a_space_are_weighed_so(tmp_path):
    texts = ["the lake, a sun."] * 2
    directory = vocabularies.trained_byte_level(tmp_path, texts)
    tokenizer, own = load_tokenizer(directory), [texts[0][a:b] for a, b in split_text(texts[0], "punctuation")]
    row = {"gold": ["O"] * len(own), "prediction": ["B"] * len(own), "text": texts[0], "words": own}
    (encoding,) = of_tags([row], ["O", "B"], tokenizer, DataConfig(max_length=48)).encodings
    assert encoding.ids == tokenizer(f" {texts[0]}")["input_ids"]
