"""Running text: every token is in an example, documents stay separate, and segment pairs are made as BERT's are."""

import dataclasses
import itertools
import json
import random

import numpy as np
import pytest

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.tokens import corpus
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.segment_pairs import pairs
from jaxft.data.tokens.spans import frame_of, join_spans
from jaxft.data.tokens.tokenizer import load_tokenizer
from tests.support import tiny, vocabularies

SEP, MAX = 3, 16


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    tiny.write_tokenizer(directory)
    return load_tokenizer(directory)


def documents(count: int, lines: int = 6, words: int = 12, seed: int = 0) -> list[list[str]]:
    rng = random.Random(seed)
    return [
        [
            " ".join(rng.choices(["brightly", *tiny.WORDS[:-1]], k=rng.randint(1, words)))
            for _ in range(rng.randint(1, lines))
        ]
        for _ in range(count)
    ]


def write_txt(path, texts: list[list[str]]):
    path.write_text("\n\n \n".join("\n".join(lines) for lines in texts) + "\n", encoding="utf-8")
    return path


def read(path, tokenizer, *, alone: bool = False, by_line: bool = False, words: bool = False, **options):
    rows = corpus.read(DataConfig(train=str(path), **options), "train", line_documents=alone)
    return rows, corpus.tokenise(rows, "text", tokenizer, words=words, by_line=by_line)


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def flat(lists) -> list:
    return list(itertools.chain.from_iterable(lists))


def unpacked(arrays) -> list[list[int]]:
    return [x.tolist() for x in np.split(arrays["input_ids"], arrays["offsets"][1:-1])]


def test_no_token_is_lost_when_documents_are_joined(tokenizer, tmp_path):
    texts = documents(7)
    rows, stream = read(write_txt(tmp_path / "a.txt", texts), tokenizer)
    assert rows["text"] == texts
    found = unpacked(corpus.examples(stream, frame_of(tokenizer, 1, MAX), MAX, join=True))
    expected: list[int] = []
    for lines in texts:
        expected += [*([SEP] if expected else []), *ids(tokenizer, " ".join(lines))]
    assert flat(x[1:-1] for x in found) == expected
    assert {(x[0], x[-1]) for x in found} == {(2, SEP)}
    assert all(len(x) == MAX for x in found[:-1])
    assert 2 < len(found[-1]) <= MAX


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_no_token_is_lost_when_documents_stay_separate(tokenizer, tmp_path, kind):
    texts = documents(5, words=30)
    path = tmp_path / f"a.{kind}"
    if kind == "txt":
        write_txt(path, texts)
        each = flat(texts)
    else:
        each = ["\n".join(lines) for lines in texts]
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in each))
    rows, stream = read(path, tokenizer, alone=True)
    assert len(rows) == len(each)
    found = unpacked(corpus.examples(stream, frame_of(tokenizer, 1, MAX), MAX, join=False))
    for text in each:
        words = ids(tokenizer, text)
        while words:
            assert found.pop(0) == [2, *words[: MAX - 2], SEP]
            words = words[MAX - 2 :]
    assert not found


def test_every_token_knows_the_word_that_it_belongs_to(tokenizer, tmp_path):
    """A word's number is 1 + the position of its first piece; special tokens, also those in the text, have 0."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "the brightly [MASK] sun brightly old brightly"}))
    arrays = corpus.examples(read(path, tokenizer, words=True)[1], frame_of(tokenizer, 1, 8), 8, join=True)
    assert np.split(arrays["words"], arrays["offsets"][1:-1])[0].tolist() == [0, 2, 3, 3, 0, 6, 7, 0]
    # [CLS] ##ly old bright ##ly [SEP]: a word that is cut counts as a new one
    assert np.split(arrays["words"], arrays["offsets"][1:-1])[1].tolist() == [0, 2, 3, 4, 4, 0]
    plain = corpus.examples(read(path, tokenizer)[1], frame_of(tokenizer, 1, 8), 8, join=True)
    assert plain["words"][:8].tolist() == [0, 2, 3, 4, 0, 6, 7, 0]


def test_special_tokens_are_those_of_the_tokenizer(tokenizer, tmp_path, shared_data):
    roberta = load_tokenizer(vocabularies.byte_level(tmp_path, shared_data / "vocab/roberta-base"))
    for tok in (tokenizer, roberta):
        a, b = ids(tok, "the old stone"), ids(tok, "a river")
        stream = np.array([*a, *b])
        for texts in (["the old stone"], ["the old stone", "a river"]):
            spans = np.array([[[0, len(a)], [len(a), len(stream)]][: len(texts)]])
            made = join_spans(stream, np.ones(len(stream), bool), spans, frame_of(tok, len(texts), 32))
            theirs = tok(*texts, return_token_type_ids=True)
            assert made["input_ids"].tolist() == theirs["input_ids"]
            typed = "token_type_ids" in tok.model_input_names
            assert made["token_type_ids"].tolist() == [x * typed for x in theirs["token_type_ids"]]


def halves(arrays) -> list[tuple[list[int], list[int], int]]:
    """(first segment, second, label) of each pair, special tokens left out."""
    data = Examples({"t": arrays["token_type_ids"]}, arrays["offsets"], {})
    cut = [int((arrays["token_type_ids"][a : a + n] == 0).sum()) for a, n in zip(data.starts, data.lengths, strict=True)]
    made = zip(unpacked(arrays), cut, arrays["labels"], strict=True)
    return [(x[1 : n - 1], x[n:-1], int(label)) for x, n, label in made]


def numbered(count: int, lines: int, words: int, seed: int = 0) -> corpus.Stream:
    """A corpus in which every token is its own number, from 100."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, words + 1, (count, lines))
    edges = np.concatenate([[0], np.cumsum(sizes)])
    total = edges[-1]
    return corpus.Stream(np.arange(100, 100 + total), np.ones(total, bool), edges, np.arange(0, count * lines + 1, lines))


def document_of(stream: corpus.Stream, tokens: list[int]) -> int:
    """The document of some tokens, which must be consecutive and in a single document."""
    assert tokens == list(range(tokens[0], tokens[0] + len(tokens)))
    edges = stream.lines[stream.documents] + 100
    first, last = np.searchsorted(edges, [tokens[0], tokens[-1]], side="right")
    assert first == last
    return int(first) - 1


def test_next_sentence_pairs_are_made_as_berts_are(tokenizer):
    stream, length = numbered(200, 8, 20), 64
    frame = frame_of(tokenizer, 2, length)
    made = pairs(stream, frame, length, order=False, seed=0, origin="x")
    found = halves(made)
    seen, longest = np.zeros(len(stream.ids), bool), length - 3
    for a, b, label in found:
        assert len(a) >= 1
        assert len(b) >= 1
        assert len(a) + len(b) <= longest
        assert (document_of(stream, a) != document_of(stream, b)) == label
        if not label:  # truncated tokens may lie between them
            assert a[-1] < b[0]
        seen[np.array(a) - 100] = True
        seen[np.array(b) - 100] = True
    labels = np.array([label for *_, label in found])
    assert 0.45 < labels.mean() < 0.6  # half, and those of a single line
    full = np.mean([len(a) + len(b) == longest for a, b, _ in found])
    assert 0.4 < full < 0.95
    assert seen.mean() > 0.9
    again = pairs(stream, frame, length, order=False, seed=0, origin="x")
    assert all(np.array_equal(made[name], again[name]) for name in made)
    other = pairs(stream, frame, length, order=False, seed=1, origin="x")
    assert not np.array_equal(made["labels"], other["labels"][: len(made["labels"])])


def test_a_tenth_of_the_documents_has_short_pairs(tokenizer):
    """Documents of many one-token lines: each pair is as long as its document's target."""
    stream, length = numbered(400, 200, 1), 64
    found = halves(pairs(stream, frame_of(tokenizer, 2, length), length, order=True, seed=0, origin="x"))
    longest = np.zeros(400, int)
    for a, b, _ in found:
        document = document_of(stream, sorted(a + b))
        longest[document] = max(longest[document], len(a) + len(b))
    assert 0.05 < (longest < 61).mean() < 0.15
    assert longest.min() < 30


def test_sentence_order_pairs_are_consecutive_segments_in_either_order(tokenizer):
    """One document is enough, single lines are divided, and no token that fits is lost."""
    stream = numbered(30, 5, 9)
    frame = frame_of(tokenizer, 2, 64)
    found = halves(pairs(stream, frame, 64, order=True, seed=0, origin="x"))
    seen = []
    for a, b, label in found:
        first, second = (b, a) if label else (a, b)
        assert document_of(stream, first + second) >= 0  # the second follows the first
        seen += first + second
    assert 0.3 < np.mean([label for *_, label in found]) < 0.7
    assert sorted(seen) == stream.ids.tolist()
    lonely = numbered(3, 1, 9, seed=1)
    found = halves(pairs(lonely, frame, 64, order=True, seed=0, origin="x"))
    assert sorted(flat(a + b for a, b, _ in found)) == lonely.ids.tolist()


def test_long_pairs_lose_tokens_of_the_longer_segment_at_either_end(tokenizer):
    stream, length = numbered(300, 2, 100), 32
    ends = {"front": 0, "back": 0}
    begins = set((stream.lines + 100).tolist())
    for a, b, label in halves(pairs(stream, frame_of(tokenizer, 2, length), length, order=True, seed=0, origin="x")):
        del label
        assert len(a) + len(b) <= length - 3
        for x in (a, b):
            ends["front"] += x[0] not in begins
            ends["back"] += x[-1] + 1 not in begins
    assert min(ends.values()) > 50


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("a.txt", "\n \n\n", {}, ["a.txt", "every line is empty"]),
        ("a.jsonl", '{"text": "x"}\n{"text": " "}\n', {}, ["a.jsonl", "row 2", "empty document", "data.empty_texts drop"]),
        ("a.jsonl", '{"text": ["x", "y"]}\n{"text": [""]}\n', {}, ["a.jsonl", "row 2", "empty document"]),
        ("a.jsonl", '{"text": ""}\n', {"empty_texts": "drop"}, ["a.jsonl", "every document is empty"]),
        ("a.jsonl", '{"text": 5}\n', {}, ["a.jsonl", "row 1 has 5", "must be text, or a list of lines"]),
        ("a.txt", "", {}, ["a.txt", "empty"]),
    ],
)
def test_a_corpus_without_text_is_refused(tmp_path, name, content, options, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        corpus.read(DataConfig(train=str(tmp_path / name), **options), "train")
    for word in words:
        assert word in str(error.value)


def test_empty_documents_are_dropped_on_request(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": null}\n{"text": "y"}\n')
    config = DataConfig(train=str(tmp_path / "a.jsonl"), empty_texts="drop")
    assert corpus.read(config, "train")["text"] == ["x", "y"]


def test_a_corpus_without_pairs_is_refused(tokenizer):
    frame, one = frame_of(tokenizer, 2, 32), numbered(1, 4, 5)
    with pytest.raises(
        UserError, match=r"here\.txt: .*two documents or more, but there is 1; in txt files empty lines .*sentence_order"
    ):
        pairs(one, frame, 32, order=False, seed=0, origin="here.txt")
    with pytest.raises(UserError, match=r"here\.txt: no document has two lines"):
        pairs(numbered(4, 1, 5), frame, 32, order=False, seed=0, origin="here.txt")
    single = dataclasses.replace(one, ids=one.ids[:1], lines=np.array([0, 1]), documents=np.array([0, 1]))
    with pytest.raises(UserError, match=r"here\.txt: no document has two tokens"):
        pairs(single, frame, 32, order=True, seed=0, origin="here.txt")
    with pytest.raises(UserError, match=r"data\.max_length is 4: must be at least 5"):
        frame_of(tokenizer, 2, 4)
