"""Entities of texts have the right offsets, for every kind of tokenizer and for unusual texts."""

import random

import numpy as np
import pytest

from jaxft.config import Config, DataConfig, TaskConfig
from jaxft.data.batching.collect import Summary
from jaxft.data.formats import tags
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.tasks.token_classification import TokenClassification
from tests.support import tiny, vocabularies

LABELS = ("O", "B-x", "I-x", "B-y", "I-y")
TEXTS = [
    "John lives in Paris, (not) in New York.",
    "  Two  spaces\tand\u00a0NBSP \u3000 here ",
    "cafe\u0301 na\u00efve Zu\u0308rich e\u0301 x\u0301\u0302 \u0301y",
    "\U0001f600 Paris \U0001f469\u200d\U0001f469\u200d\U0001f467 ok\U0001f44d\U0001f3fd",
    "\U0001f1eb\U0001f1f7\U0001f1e9\U0001f1ea",
    "\u6211\u4f4f\u5728\u5317\u4eac \u5927 hello",
    "\ufb01ne \u00bd \u2460 \uff21\uff22\uff23 \u0130stanbul \u1e9e",
    "a\u200bb \u200bc don't U.S. (it's)",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
]


@pytest.fixture(scope="module", params=["wordpiece", "letters", "byte level", "sentencepiece", "unigram"])
def tokenizer(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    if request.param == "wordpiece":
        tiny.write_tokenizer(directory)
    elif request.param == "letters":
        vocabularies.letters(directory, ["paris", "john"])
    elif request.param == "byte level":
        vocabularies.trained_byte_level(directory, TEXTS)
    elif request.param == "sentencepiece":
        vocabularies.sentencepiece(directory, TEXTS, size=120)
    else:
        vocabularies.unigram(directory, ["Paris", "John"])
    return load_tokenizer(directory), directory


@pytest.mark.parametrize("how", ["punctuation", "spaces"])
@pytest.mark.parametrize("max_length", [64, 12])
def test_entities_have_the_offsets_of_their_text(tokenizer, tmp_path, how, max_length):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    data = DataConfig(test=str(tmp_path / "a.txt"), split_words=how, max_length=max_length, stride=2, cache=False)
    config = Config(task=TaskConfig(name="token-classification"), data=data)
    task = TokenClassification(LABELS)
    split = task.encode(task.read(config, "test", labelled=False), *tokenizer, config, "a.txt", labelled=False)
    first = split.notes["first"]
    rng = random.Random(0)
    wanted = np.array([rng.randrange(len(LABELS)) if token >= 0 else 0 for token in first])
    predicted = np.zeros(len(split.examples.tokens["input_ids"]), np.int32)
    predicted[first[first >= 0]] = wanted[first >= 0]
    found = list(task.decode(Summary(tokens={"predicted": predicted, "score": np.ones(len(predicted))}), split))
    assert [row["text"] for row in found] == TEXTS
    assert [x for row in found for x in row["tags"]] == [LABELS[i] for i in wanted]
    for row, begins, ends in zip(found, split.rows["begins"], split.rows["ends"], strict=True):
        text = row["text"]
        assert [text[a:b] for a, b in zip(begins, ends, strict=True)] == row["words"]
        right = [(kind, begins[a], ends[b - 1]) for kind, a, b in tags.spans(row["tags"])]
        assert [(x["type"], x["start"], x["end"]) for x in row["entities"]] == right
        for entity in row["entities"]:
            assert entity["text"] == text[entity["start"] : entity["end"]] == entity["text"].strip()
            before, after = text[: entity["start"]], text[entity["end"] :]
            if how == "spaces":
                assert not before[-1:].strip() or before.endswith("\u200b")
                assert not after[:1].strip() or after.startswith("\u200b")
