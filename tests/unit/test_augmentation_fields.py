"""Edited rows: answers, entities and tags stay where they belong, in texts of every script."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft.data.augmentation import mentions, noise, order, synonyms
from jaxft.data.augmentation.document import text_document
from jaxft.data.augmentation.engine import DRAWN, LOST, UNCHANGED, Augmenter
from jaxft.data.augmentation.fields import QuestionFields, TaggedFields, TextFields
from jaxft.data.formats.squad import NOWHERE
from jaxft.data.formats.tags import find_violation, spans

PARTS = [
    "a",
    "B",
    "don't",
    "e\u0301",
    "\U0001f469\u200d\U0001f467",
    "\u05e9\u05dc\u05d5\u05dd",
    "\u4e2d",
    "\u6587",
    "\u0939\u093f",
]
PARTS += [" ", "\r\n", "\u00a0", ".", "(", "\u3002", "\u0301", "-"]
SYNONYMS = synonyms.table({x.lower(): ["stone", "old bridge", "\u6c34"] for x in PARTS})
EDITS = [
    order.Delete(0.5),
    order.Swap(0.5),
    synonyms.Insert(0.5, SYNONYMS),
    synonyms.Replace(0.5, SYNONYMS),
    noise.Spelling(0.9),
    noise.Keyboard(0.9),
    noise.Case(0.9),
]
CONTEXTS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=20).map("".join).filter(str.strip)


def augmenter(fields, steps=EDITS, *, share: float = 1.0, one: bool = False) -> Augmenter:
    return Augmenter(steps, fields, share, one, 0)


def edit(fields, row: dict, steps=EDITS, *, number: int = 1, epoch: int = 0) -> dict | None:
    """The row after augmentation; None if it would lose something."""
    found = augmenter(fields, steps)({name: [x] for name, x in row.items()}, [number], epoch)
    if found.counts[LOST]:
        assert not found.rows
        return None
    return {name: values[0] for name, values in found.columns.items()} if found.rows else row


@st.composite
def questions(draw):
    context = draw(CONTEXTS)
    answers = []
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(context) - 1))
        answer = context[start : draw(st.integers(start + 1, len(context)))]
        answers += [(answer, start)] if answer.strip() else []
    if draw(st.booleans()):
        answers.append(("nowhere", NOWHERE))
    answer = {"text": [x for x, _ in answers], "answer_start": [x for _, x in answers]}
    return {"question": draw(CONTEXTS), "context": context, "answers": answer}


@given(questions(), st.integers(0, 30))
def test_answers_read_what_they_did(row, number):
    after = edit(QuestionFields(), row, number=number)
    assert after is not None  # nothing that an answer holds is edited, so none is lost
    assert after["answers"]["text"] == row["answers"]["text"]
    for text, start, before in zip(*after["answers"].values(), row["answers"]["answer_start"], strict=True):
        assert (start == NOWHERE) == (before == NOWHERE)
        assert start == NOWHERE or after["context"][start : start + len(text)] == text
    assert after["context"].strip()


def test_contexts_around_answers_change():
    row = {
        "question": "who runs over the old bridge",
        "context": "the river runs over the old stone bridge and under the sun",
        "answers": {"text": ["old stone"], "answer_start": [24]},
    }
    found = [edit(QuestionFields(), row, number=n) for n in range(20)]
    assert len({x["context"] for x in found}) > 15
    assert len({x["answers"]["answer_start"][0] for x in found}) > 3


KINDS = ["LOC", "PER"]
WORDS = [x for x in PARTS if x.strip()]


@st.composite
def sentences(draw):
    words, tags = [], []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["O", *KINDS]))
        size = draw(st.integers(1, 3))
        words += draw(st.lists(st.sampled_from(WORDS), min_size=size, max_size=size))
        tags += ["O"] * size if kind == "O" else [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
    row = {"words": words, "tags": tags, "line": list(range(5, 5 + len(words)))}
    if draw(st.booleans()):
        text, begins, ends = draw(st.sampled_from(["", " ", "\r\n"])), [], []
        for word in words:
            begins.append(len(text))
            text += word
            ends.append(len(text))
            text += draw(st.sampled_from(["", " ", "\u2003", "\r\n"]))
        row |= {"text": text, "begins": begins, "ends": ends}
    return row


def entities(row: dict) -> list[tuple[str, list[str]]]:
    return [(kind, row["words"][a:b]) for kind, a, b in spans(row["tags"])]


def check_sentence(row: dict) -> None:
    assert len(row["words"]) == len(row["tags"]) == len(row["line"])
    assert find_violation(row["tags"], "iob2") is None
    assert all(row["words"])
    if "text" in row:
        places = zip(row["begins"], row["ends"], strict=True)
        assert [row["text"][a:b] for a, b in places] == row["words"]


@given(sentences(), st.integers(0, 30))
def test_entities_read_what_they_did(row, number):
    after = edit(TaggedFields(list(row), entities=True), row, number=number)
    assert after is not None
    check_sentence(after)
    assert entities(after) == entities(row)


MENTIONS = {"LOC": [("New", "York"), ("\u4e2d",)], "PER": [("Ann", "\u05e9\u05dc\u05d5\u05dd", "X")]}


@given(sentences(), st.integers(0, 30))
def test_other_mentions_have_the_same_types(row, number):
    after = edit(TaggedFields(list(row), entities=True), row, [mentions.ReplaceMentions(0.7, MENTIONS)], number=number)
    assert after is not None
    check_sentence(after)
    pairs = list(zip(entities(row), entities(after), strict=True))
    assert all(a == b or (a[0] == b[0] and tuple(b[1]) in MENTIONS[b[0]]) for a, b in pairs)
    outside = [[w for w, t in zip(x["words"], x["tags"], strict=True) if t == "O"] for x in (row, after)]
    assert outside[0] == outside[1]


@given(sentences(), st.integers(0, 30))
def test_shuffled_segments_keep_words_and_tags(row, number):
    after = edit(TaggedFields(list(row), entities=True), row, [order.ShuffleSegments(0.7)], number=number)
    assert after is not None
    check_sentence(after)
    assert after["tags"] == row["tags"]
    start = 0
    for size in order.segment_sizes(row["tags"]):
        segment = slice(start, start + size)
        assert Counter(after["words"][segment]) == Counter(row["words"][segment])
        start += size


def test_words_with_the_same_tag_take_the_place_of_others():
    row = {"words": ["Ann", "sees", "Paris"], "tags": ["B-PER", "O", "B-LOC"]}
    step = mentions.ReplaceTagged(1.0, {"B-PER": ["Bob"], "O": ["likes"], "B-LOC": ["Rome"]})
    after = edit(TaggedFields(list(row), entities=True), row, [step])
    assert after == {"words": ["Bob", "likes", "Rome"], "tags": row["tags"]}


def test_a_synonym_of_several_words_continues_the_entity():
    row = {"words": ["the", "lake", "shines"], "tags": ["O", "B-LOC", "O"], "text": "the lake\r\nshines"}
    row |= {"begins": [0, 4, 10], "ends": [3, 8, 16]}
    step = synonyms.Replace(1.0, synonyms.table({"lake": ["old lake"], "shines": ["is bright"]}), entities=True)
    after = edit(TaggedFields(list(row), entities=True), row, [step])
    assert after == {
        "words": ["the", "old", "lake", "is", "bright"],
        "tags": ["O", "B-LOC", "I-LOC", "O", "O"],
        "text": "the old lake\r\nis bright",
        "begins": [0, 4, 8, 14, 17],
        "ends": [3, 7, 12, 16, 23],
    }


def test_tags_that_mark_no_entities_go_with_their_words():
    row = {"words": ["she", "sings", "well"], "tags": ["PRON", "VERB", "ADV"]}
    pairs = set(zip(row["words"], row["tags"], strict=True))
    for number in range(20):
        after = edit(TaggedFields(list(row), entities=False), row, [order.Swap(0.5), order.Delete(0.5)], number=number)
        assert set(zip(after["words"], after["tags"], strict=True)) <= pairs


def test_pairs_lists_and_missing_texts():
    row = {"a": "the old river", "b": None, "c": ["stone and sun", "", "a bridge"]}
    after = edit(TextFields(list(row)), row, [order.Swap(0.5)])
    assert after["b"] is None
    assert [Counter(x.split()) for x in after["c"]] == [Counter(x.split()) for x in row["c"]]
    assert after["a"] != row["a"]


class Emptying:
    def __call__(self, document, draws):
        while document.words:
            document.delete(0)


@pytest.mark.parametrize("row", [{"text": "the sun"}, {"words": ["sun"], "tags": ["NOUN"]}], ids=["text", "words"])
def test_a_row_that_would_be_empty_stays_and_is_counted(row):
    fields = TextFields(["text"]) if "text" in row else TaggedFields(list(row), entities=False)
    assert edit(fields, row, [Emptying()]) is None


def test_share_and_single_steps():
    texts = {"text": [f"the old river {i} runs" for i in range(2000)]}
    numbers = list(range(1, 2001))
    for share in (0.0, 0.3, 1.0):
        found = augmenter(TextFields(["text"]), [order.Swap(0.5)], share=share)(texts, numbers, 0)
        assert found.counts[DRAWN] == pytest.approx(2000 * share, abs=70)
        assert len(found.rows) + found.counts[UNCHANGED] == found.counts[DRAWN]
    one = augmenter(TextFields(["text"]), [noise.Case(1.0, "upper"), order.Delete(0.9)], one=True)(texts, numbers, 0)
    upper = [text.isupper() for text in one.columns["text"]]
    short = [len(text.split()) < 5 for text in one.columns["text"]]
    assert all(a != b for a, b in zip(upper, short, strict=True))
    assert sum(upper) == pytest.approx(1000, abs=100)


def test_a_row_is_edited_alike_among_other_rows_and_otherwise_in_another_epoch():
    texts = [f"the old river {i} runs over a stone" for i in range(50)]
    make = augmenter(TextFields(["text"]))
    whole = make({"text": texts}, list(range(1, 51)), 3).columns["text"]
    alone = [make({"text": [text]}, [i], 3).columns["text"][0] for i, text in enumerate(texts, 1)]
    assert whole == alone
    assert whole != make({"text": texts}, list(range(1, 51)), 4).columns["text"]
    assert (
        whole
        != Augmenter(EDITS, TextFields(["text"]), 1.0, False, 1)({"text": texts}, list(range(1, 51)), 3).columns["text"]
    )


def test_a_tagged_sentence_that_no_step_changes_is_the_row_itself():
    """Also with the columns that number the lines of its words, so that it is counted as unchanged."""
    row = {"words": ["river", "stone"], "tags": ["O", "B-place"], "line": [3, 4]}
    assert TaggedFields(list(row), entities=True).edited(row, lambda _: None) == row


def test_words_beside_a_deleted_or_exchanged_one_do_not_become_one():
    text = "\u53bbParis\u548cLondon\u73a9"  # Han characters are words; there are no spaces
    document = text_document(text)
    assert document.words == ["\u53bb", "Paris", "\u548c", "London", "\u73a9"]
    document.delete(2)
    assert document.text() == "\u53bbParis London\u73a9"
    document = text_document(text)
    document.swap(0, 3)
    assert document.text() == "London Paris\u548c\u53bb\u73a9"
