"""Duplicates: equal texts and pairs of similar shingles are found, between splits as within one, and no false ones."""

import random
import unicodedata
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxft.data.cleaning import buckets, forms, minhash, shingles
from jaxft.data.cleaning.duplicates import NearDuplicate, exact_groups, near_duplicates
from tests.support import planted

ODD = "aAbB \t!?,éÉe\u0301ﬁ①ß\u0130中文字\uff11🙂\u200d\ufe0f\ud800\udfff\x00"
TEXTS = st.lists(st.text(st.sampled_from(ODD), max_size=8), max_size=12)
WORDS = st.lists(st.sampled_from(planted.WORDS[:9]), max_size=9).map(" ".join)


def sets_of(texts):
    """The shingles as strings, in pure Python."""
    found = []
    for text in texts:
        form = forms.word_form(text)
        ends = range(3, len(form) + 1)
        found.append({form[end - 3 : end] for end in ends} if len(form) >= 3 else {form} - {""})
    return found


def jaccard(left, right):
    return len(left & right) / len(left | right) if left | right else 1.0


@given(TEXTS)
@example(["", " ", "\t\n"])
@example(["\ud800", "\ud800 "])
@example(["Straße  1", "STRASSE \uff11"])
def test_exact_groups_are_those_of_the_definition(texts):
    def form(text):
        return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())

    known = [form(text) for text in texts]
    assert exact_groups(iter(texts)).tolist() == [known.index(x) for x in known]


def test_exact_groups_of_no_text():
    found = exact_groups([])
    assert (found.shape, found.dtype) == ((0,), np.int64)


@given(TEXTS)
@example(["ab", "abc", "", "a", "abcabc"])
@example(["", ""])
def test_shingles_are_those_of_a_plain_loop(texts):
    codes, offsets = shingles.shingles_of([forms.word_form(text) for text in texts])

    def characters(code):
        return "".join(chr((code >> shift & (1 << 21) - 1) - 1) for shift in (42, 21, 0) if code >> shift & (1 << 21) - 1)

    parts = [codes[start:end].tolist() for start, end in pairwise(offsets)]
    assert [{characters(code) for code in part} for part in parts] == sets_of(texts)
    assert all(part == sorted(set(part)) for part in parts)


@settings(max_examples=30)
@given(st.lists(st.one_of(WORDS, st.text(st.sampled_from(ODD), max_size=12)), max_size=12))
@example(["a", "a!", "A"])
@example(["", " ", "?"])
def test_pairs_within_a_split_are_those_of_all_comparisons(texts):
    """Of texts with equal words the first is compared with others."""
    sets, keys = sets_of(texts), [forms.word_form(text) for text in texts]
    first = [keys.index(key) for key in keys]
    found = near_duplicates(texts)
    for pair in found:
        assert pair.first < pair.second
        assert pair.similarity == jaccard(sets[pair.first], sets[pair.second]) >= 0.75
    assert found == sorted(set(found))
    equal = {(first[i], i) for i in range(len(texts)) if first[i] != i}
    rows = [(pair.first, pair.second) for pair in found]
    assert equal <= set(rows)
    high = {
        (i, j)
        for i, j in combinations(sorted(set(first)), 2)
        if jaccard(sets[i], sets[j]) >= 0.85  # each is missed with a probability of 6e-8
    }
    assert high <= set(rows)


@settings(max_examples=30)
@given(st.lists(WORDS, max_size=10), st.lists(WORDS, max_size=10))
def test_every_row_with_a_duplicate_in_the_other_split_is_in_a_pair(texts, others):
    left, right = sets_of(texts), sets_of(others)
    found = near_duplicates(texts, others)
    for pair in found:
        assert pair.similarity == jaccard(left[pair.first], right[pair.second]) >= 0.75
    want = [(i, j) for i, j in product(range(len(texts)), range(len(others))) if jaccard(left[i], right[j]) >= 0.85]
    assert {i for i, _ in want} <= {pair.first for pair in found}
    assert {j for _, j in want} <= {pair.second for pair in found}


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("How do I activate my new card, please?", "how do i activate my new card please"),
        ("How do I activate my new card, please?", "How do I activate my  newcard, please ?"),
        ("How do I activate my new card, please?", "How do I activate my new crad, please?"),
        ("Why was my transfer to the new account declined today?", "Why was my transfer to a new account declined today?"),
        (
            "酒店的位置很好\uff0c交通方便\uff0c房间也比较干净\uff0c下次还会住。",
            "酒店的位置很好,交通方便,房间也比较干净,下次还会来住",
        ),
    ],
)
def test_what_people_call_near_duplicates_is_found(text, near):
    noise = ["What is the exchange rate for euros?", "早餐品种太少\uff0c服务员态度一般。"]
    assert [(x.first, x.second) for x in near_duplicates([text, *noise, near])] == [(0, 3)]
    assert [(x.first, x.second) for x in near_duplicates([*noise, text], [near])] == [(2, 0)]


def test_texts_without_a_shingle():
    assert near_duplicates([]) == []
    assert near_duplicates([], []) == []
    assert near_duplicates(["one text alone"]) == []
    assert near_duplicates(["", "x", "", "ab", "AB "]) == [NearDuplicate(0, 2, 1.0), NearDuplicate(3, 4, 1.0)]
    assert near_duplicates(["", "a"], ["", "b"]) == [NearDuplicate(0, 0, 1.0)]
    assert near_duplicates(["!!!", "???", "!!! "]) == [NearDuplicate(0, 2, 1.0)]
    assert near_duplicates(["\ud800a text \udfff", "\ud800a text"]) == [NearDuplicate(0, 1, 1.0)]


def test_texts_that_are_all_equal_give_one_pair_each():
    same = ["The same text, over and over"] * 3000
    assert near_duplicates(same) == [NearDuplicate(0, i, 1.0) for i in range(1, 3000)]
    assert len(near_duplicates(same, same)) == 2 * 3000 - 1
    near = near_duplicates(same, ["The same texts, over and over", "A same text, over and over"])
    assert [pair[:2] for pair in near[:2]] == [(0, 0), (0, 1)]
    assert [pair[:2] for pair in near[2:]] == [(i, 0) for i in range(1, 3000)]


def test_variants_of_one_template_are_compared_with_representatives(monkeypatch):
    """There are 45,000 similar pairs; every text is in one."""
    monkeypatch.setattr("jaxft.data.cleaning.duplicates.AT_ONCE", 1000)
    texts = [f"Your order with the number {i:04} has left our warehouse and will reach you tomorrow" for i in range(300)]
    found = near_duplicates(texts)
    assert {row for pair in found for row in pair[:2]} == set(range(300))
    assert len(found) < 300 * 3 * buckets.MOST
    between = near_duplicates(texts[:150], texts[150:])
    assert {pair.first for pair in between} == set(range(150)) == {pair.second for pair in between}


def test_a_pair_that_a_large_bucket_left_out_is_found_in_a_small_one():
    large = buckets.ALL_PAIRS + 1
    bands = np.zeros((large, 4), np.uint32)
    bands[:, 2:] = np.arange(large)[:, None]
    bands[-1, 2:] = bands[-2, 2:]
    state = np.ones((large, 2), bool), np.zeros((large, 4), bool), np.zeros(large, np.int64)
    found = [np.concatenate(list(buckets.candidates(bands, band, *state)), 1).T.tolist() for band in range(4)]
    assert found[0] == []
    assert [0, large - 1] in found[1]
    assert [large - 2, large - 1] not in found[1]
    assert found[2:] == [[[large - 2, large - 1]], []]


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_the_bands_find_nearly_all_pairs_of_the_similarity(similarity):
    assert minhash.missed(similarity, minhash.rows_per_band(similarity)) <= minhash.MISSED
    sets = [np.arange(200), np.arange(200) + round(200 * (1 - similarity) / (1 + similarity))]
    agree = 0
    for shift in range(60):
        codes = np.concatenate(sets) + 1000 * shift
        bands = minhash.Bands(similarity).of(codes, np.array([0, 200, 400]))
        agree += (bands[0] == bands[1]).sum() >= 2
    assert agree >= 58


@pytest.mark.parametrize("similarity", [0.0, -1.0, 1.01, float("nan")])
def test_a_similarity_outside_its_range_is_refused(similarity):
    with pytest.raises(ValueError, match="similarity is"):
        near_duplicates(["a"], similarity=similarity)


def test_planted_leaks_are_found():
    """All exact ones, 95 % of the near ones, and at most 1 % of what is found is false."""
    rng = random.Random(0)
    train, test, leaks = planted.splits(planted.sentences(2500, rng), 800, 500, rng)
    groups = exact_groups([*train, *test])[len(train) :]
    exact = {row for row in range(len(test)) if groups[row] < len(train)}
    found = near_duplicates(train, test)
    assert {row for row, kind in leaks.items() if kind == "exact"} <= exact
    rows = {pair.second for pair in found}
    near = {row for row, kind in leaks.items() if kind != "exact"}
    assert len(near & rows) >= 0.95 * len(near)
    assert len(rows - leaks.keys()) <= 0.01 * len(rows)


def test_the_result_does_not_depend_on_how_texts_are_read(monkeypatch):
    texts = planted.sentences(400, random.Random(1))
    texts += [text.replace("e", "a", 1) for text in texts[:50]]
    whole = near_duplicates(texts)
    assert len(whole) >= 40
    monkeypatch.setattr(shingles, "CHARACTERS", 100)
    monkeypatch.setattr("jaxft.data.cleaning.duplicates.AT_ONCE", 7)
    assert near_duplicates(texts) == whole
