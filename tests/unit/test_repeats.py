"""Duplicates, leaks and conflicts are found by text and label; words, scripts, tokens and shares of labels are counted."""

import numpy as np
import pytest

from jaxft.config.clean import SCRIPTS, CleanConfig
from jaxft.data.quality.label_shares import drift, label_counts
from jaxft.data.quality.measures import known_shares, letters_by_script, script_share, word_count
from jaxft.data.quality.repeats import Search, SplitTexts, taggings_agree
from jaxft.data.quality.row_texts import RowTexts
from jaxft.data.quality.selection import counts_by_reason, dropped, left_out_lines
from tests.support import tiny

LONG = "please tell me how long it will take until the new card that i ordered last week arrives at my home"


def split(rows: list[tuple], *columns: str) -> SplitTexts:
    """Rows of (text, ..., label)."""
    import datasets

    values = {name: [row[i] for row in rows] for i, name in enumerate(columns)}
    labels = [(row[-1],) for row in rows] if rows and len(rows[0]) > len(columns) else None
    return SplitTexts(RowTexts(datasets.Dataset.from_dict(values), columns), labels)


TRAIN = [
    (LONG, "a"),
    ("short text", "a"),
    ("Short\u00a0 TEXT", "a"),  # an exact duplicate of row 1
    ("short text", "b"),  # a conflict with rows 1 and 2
    (LONG.replace("week", "weeks"), "a"),  # a near duplicate of row 0
    (LONG.replace("home", "homes"), "b"),  # near row 0, with another label
    ("only here", "c"),
    ("in test, too", "c"),
]
TEST = [("something else", "a"), ("In test,  too", "b"), (LONG + " today", "b")]


@pytest.fixture
def search() -> Search:
    return Search({"train": split(TRAIN, "text"), "test": split(TEST, "text")}, 0.8)


def test_repeats_are_found_with_their_labels(search):
    assert [x[:2] for x in search.duplicates("train")] == [(2, 1)]
    same, different = search.near("train")
    assert [x[:2] for x in same] == [(2, 1), (4, 0)]
    assert [x.row for x in different] == [3, 5]
    assert search.conflicts("train") == [[1, 2, 3]]
    assert [x[:2] for x in search.leaks("train", "test")] == [(0, 2), (4, 2), (5, 2), (7, 1)]
    assert [x[:2] for x in search.leaks("train", "test", near=False)] == [(7, 1)]
    assert all(0.8 <= x.similarity <= 1 for x in search.leaks("train", "test"))
    unlabelled = Search({"train": split([row[:1] for row in TRAIN], "text")}, 0.8)
    assert [x[:2] for x in unlabelled.duplicates("train")] == [(2, 1), (3, 1)]
    assert unlabelled.conflicts("train") == []


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, {}),
        ({"duplicates": "exact"}, {"duplicates": [2]}),
        ({"duplicates": "near"}, {"duplicates": [2], "near duplicates": [4]}),
        ({"leaks": "drop"}, {"also in the test data": [7], "nearly in the test data": [0, 4, 5]}),
        ({"conflicts": "drop"}, {"with several labels": [1, 2, 3]}),
        ({"min_words": 3, "max_words": 5}, {"with fewer than 3 words": [1, 2, 3, 6], "with more than 5 words": [0, 4, 5]}),
        ({"scripts": ["Greek", "Han"]}, {"mostly not Greek or Han": [*range(8)]}),
    ],
)
def test_rows_are_left_out_as_the_config_says(search, options, rows):
    found = dropped(CleanConfig(**options), search, "train")
    assert {why: np.flatnonzero(mask).tolist() for why, mask in found.items()} == rows
    if rows:
        left_out, counts = counts_by_reason(found)
        assert np.flatnonzero(left_out).tolist() == sorted({row for some in rows.values() for row in some})
        assert sum(counts.values()) == left_out.sum()


def test_each_row_is_counted_once():
    masks = {"with several labels": [1, 1, 0, 0], "duplicates": [0, 1, 1, 0], "near duplicates": [1, 0, 0, 0], "x": [0] * 4}
    assert left_out_lines({why: np.array(mask, bool) for why, mask in masks.items()}) == [
        "left out: 2 with several labels",
        "left out: 1 duplicate (1 more is counted above)",
        "left out: 0 near duplicates (1 more is counted above)",
    ]
    assert left_out_lines({}) == []


def test_a_pair_of_texts_repeats_only_if_both_do():
    questions = ["how much does it cost", "where was it made", "how much does it cost?"]
    rows = [(question, LONG) for question in questions] + [
        ("how much does it cost", "a b c"),
        ("how much does it", "cost a b c"),
    ]
    search = Search({"train": split(rows, "question", "context")}, 0.8)
    assert [x[:2] for x in search.near("train")[0]] == [(2, 0)]
    assert search.duplicates("train") == []
    assert len(np.unique(search.groups["train"])) == len(rows)


TAGGED = [
    ("Mr. Smith went home to Berlin after a long day", "O B-per O O O B-loc O O O O"),
    ("Smith went home to Berlin after a long day", "B-per O O O B-loc O O O O"),
    ("Mr. Smith went home to Berlin after a long day today", "O B-per O O O B-org O O O O O"),
    ("Mr. Smith went home to Bern after a long day", "O B-per O O O B-loc O O O O"),
    ("mr. smith went home to Berlin after one day", "O B-per O O O B-loc O B-num O"),
]


def test_taggings_of_other_lengths_may_agree():
    """Those of the words that both texts have, or have in each other's place, are compared."""
    import datasets

    words = [text.split() for text, _ in TAGGED]
    labels = [tuple(tags.split())[: len(x)] for (_, tags), x in zip(TAGGED, words, strict=True)]
    rows = datasets.Dataset.from_dict({"words": [["", *words[0]], *words[1:]]})
    search = Search({"train": SplitTexts(RowTexts(rows, ["words"]), labels, of_words=True)}, 0.6)
    same, different = search.near("train")
    assert [x[:2] for x in same] == [(1, 0), (3, 0), (4, 0)]
    assert [x.row for x in different] == [2]
    assert taggings_agree(["a", "b"], ("O", "B-x"), ["c", "A", "d"], ("O", "O", "B-x"))
    assert not taggings_agree(["a", "b"], ("O", "B-x"), ["a", "c"], ("O", "O"))


def test_lists_of_words_are_texts():
    texts = RowTexts(split([(["a", "", "b"],), (None,)], "words").texts._rows, ["words"])
    assert list(texts) == ["a b", ""]
    assert "a b" in texts
    assert len(texts) == 2


@pytest.mark.parametrize(
    ("text", "words", "scripts"),
    [
        ("", 0, {}),
        ("two words!", 2, {"Latin": 8}),
        ("12 : 30", 3, {}),
        ("中文 texts", 3, {"Han": 2, "Latin": 5}),
        ("e\u0301te\u0301 \u0440\u0435\u043a\u0430", 2, {"Latin": 3, "Cyrillic": 4}),
        ("हिन्दी العربية", 2, {"Devanagari": 3, "Arabic": 7}),
        ("👩\u200d👩 ❤\ufe0f", 2, {}),
    ],
)
def test_words_and_scripts_are_counted(text, words, scripts):
    assert word_count(text) == words
    assert dict(letters_by_script(text)) == scripts


def test_the_share_of_scripts():
    assert script_share("中文 ab cd", ["Han"]) == pytest.approx(1 / 3)
    assert script_share("中文 ab cd", ["Han", "Latin"]) == 1
    assert script_share("1234", ["Han"]) == 1


def test_every_script_has_a_name_that_is_known():
    import regex

    for name in SCRIPTS:
        regex.compile(rf"\p{{Script={name}}}")


def test_known_tokens(tmp_path):
    from jaxft.data.tokens.tokenizer import load_tokenizer

    tiny.write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    texts = split([("the river xyz qqq",), ("old stone",), ("",)], "text").texts
    assert known_shares(texts, load_tokenizer(tmp_path)).tolist() == [0.5, 1, 0]


def test_the_drift_of_labels():
    first, second = label_counts([("a",)] * 6 + [("b",)] * 4), label_counts([("a", "c"), ("b", "c")])
    assert (first, second) == ({"a": 6, "b": 4}, {"a": 1, "b": 1, "c": 2})
    found = drift(first, second)
    assert found.total_variation == pytest.approx((0.35 + 0.15 + 0.5) / 2)
    p, q = np.array([0.6, 0.4, 1e-300]), np.array([0.25, 0.25, 0.5])
    m = (p + q) / 2
    divergence = ((p * np.log2(p / m)).sum() + (q * np.log2(q / m)).sum()) / 2
    assert found.jensen_shannon == pytest.approx(np.sqrt(divergence))
    assert [label for label, _, _ in found.labels] == ["c", "a", "b"]
    assert drift(first, first).jensen_shannon == 0


def test_the_drift_by_chance_is_that_of_samples():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(20))
    samples = [[dict(enumerate(rng.multinomial(n, shares))) for n in (300, 700)] for _ in range(200)]
    found = [drift(*pair) for pair in samples]
    assert np.mean([x.by_chance for x in found]) == pytest.approx(np.mean([x.total_variation for x in found]), rel=0.03)
