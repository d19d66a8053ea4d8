"""Steps of augmentation on words: what they may change, on texts of every script."""

import sys
import types
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft.data.augmentation import mentions, noise, order, synonyms, translations
from jaxft.data.augmentation.document import FIXED, FREE, IN_PLACE, Document, text_document, word_spans
from jaxft.data.augmentation.draws import PIECES, Draws
from jaxft.data.augmentation.pieces import DropPieces, MaskPieces

ODD = ["aA", "don't", "e-mail", "(big)", "e\u0301", "\u00e9", "\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea"]
ODD += ["\u05e9\u05dc\u05d5\u05dd\u05b0", "\u0627\u0644\u0639\u0631\u0628", "\u4e2d\u6587", "\u4e2d\ufe00", "\uff11"]
ODD += ["\u0939\u093f\u0928\u094d\u0926\u0940", "\u1112\u1161\u11ab", "\r\n", "\n", " ", "  ", "\t", "\u00a0", "\u2003"]
ODD += [".", "!?", "\u2026", "\u3002", "\ufeff", "\u200b", "\u200d", "_", "$5"]
TEXTS = st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=3)), max_size=14).map("".join)
SYNONYMS = synonyms.table({x.lower(): ["stone", "old bridge", "\u6c34"] for x in ODD})
STEPS = {
    "delete": order.Delete(0.4),
    "swap": order.Swap(0.4),
    "insert": synonyms.Insert(0.4, SYNONYMS),
    "replace": synonyms.Replace(0.4, SYNONYMS),
    "spelling": noise.Spelling(0.8),
    "keyboard": noise.Keyboard(0.8),
    "case": noise.Case(0.8),
}


def draws(row: int = 1, seed: int = 0, epoch: int = 0) -> Draws:
    made = Draws(seed, epoch)
    made.begin(row)
    return made


def edited(step, text: str, row: int = 1) -> Document:
    document = text_document(text)
    step(document, draws(row))
    return document


def test_numbers_depend_on_seed_epoch_and_row_alone():
    def numbers(row, seed=3, epoch=5, part=0):
        made = Draws(seed, epoch)
        made.begin(row + 1)
        made.random()  # what was drawn before does not matter
        made.begin(row, part)
        return [made.random() for _ in range(70)]

    first = numbers(7)
    assert numbers(7) == first
    assert len(set(first)) == 70
    others = [numbers(8), numbers(7, seed=4), numbers(7, epoch=6), numbers(7, part=PIECES)]
    assert not any(set(first) & set(other) for other in others)
    assert 0 <= min(first) < 0.2 < 0.8 < max(first) < 1


@given(st.integers(0, 60), st.integers(0, 9))
def test_some_items_are_different_ones(count, row):
    found = draws(row).some(range(40), count)
    assert len(set(found)) == len(found) == min(count, 40)
    assert set(found) <= set(range(40))


@given(TEXTS)
def test_words_and_gaps_are_the_text(text):
    document = text_document(text)
    assert document.text() == text
    assert [text[a:b] for a, b in word_spans(text)] == document.words
    assert all(text.startswith(word, start) for start, word in zip(document.starts(), document.words, strict=True))
    assert not any(any(x.isalnum() for x in gap) for gap in document.gaps)


def test_words_of_scripts():
    assert text_document("(Don't) stop, e-mail\r\nme!").words == ["Don't", "stop", "e-mail", "me"]
    assert text_document("我爱 Bert。你").words == ["我", "爱", "Bert", "你"]
    assert text_document("हिन्दी में।").words == ["हिन्दी", "में"]


@given(TEXTS, st.integers(0, 99))
def test_deleting_keeps_the_other_words_in_order(text, row):
    before, after = text_document(text), edited(STEPS["delete"], text, row)
    left = iter(before.words)
    assert all(word in left for word in after.words)
    assert bool(after.words) == bool(before.words)
    kept = Counter("".join(before.gaps).split()) - Counter("".join(after.gaps).split())
    assert "".join("".join(before.gaps).split()) == "".join("".join(after.gaps).split()), kept


@given(TEXTS, st.integers(0, 99))
def test_swapping_keeps_words_and_gaps(text, row):
    before, after = text_document(text), edited(STEPS["swap"], text, row)
    assert Counter(after.words) == Counter(before.words)
    assert all(new == old or (new, old) == (" ", "") for new, old in zip(after.gaps, before.gaps, strict=True))


@given(TEXTS, st.integers(0, 99))
def test_inserting_keeps_the_words_and_adds_synonyms(text, row):
    before, after = text_document(text), edited(STEPS["insert"], text, row)
    rest = iter(after.words)
    assert all(word in rest for word in before.words)
    added = Counter(after.words) - Counter(before.words)
    assert set(added) <= {"stone", "old bridge", "\u6c34"}


@given(TEXTS, st.integers(0, 99), st.sampled_from(["replace", "spelling", "keyboard", "case"]))
def test_edits_in_place_change_nothing_else(text, row, name):
    before, after = text_document(text), edited(STEPS[name], text, row)
    assert after.gaps == before.gaps
    assert len(after) == len(before)
    assert all(after.words)
    changed = sum(a != b for a, b in zip(before.words, after.words, strict=True))
    assert changed <= order.count_of(STEPS[name].rate, len(before))


@given(st.lists(st.sampled_from(["क्षि", "e\u0301", "a", "\u05e9\u05b0", "\U0001f469\u200d\U0001f467", "x"]), max_size=8))
def test_marks_stay_with_their_letters(parts):
    assert noise.characters("".join(parts)) == [y for x in parts for y in (["क्", "षि"] if x == "क्षि" else [x])]


def test_edas_counts():
    """n = max(1, floor(alpha * words))."""
    assert [order.count_of(0.1, n) for n in (0, 1, 9, 10, 19, 20, 31)] == [0, 1, 1, 1, 1, 2, 3]
    assert order.count_of(0, 30) == 0
    words = [f"w{i}" for i in range(30)]
    swapped = synonyms.Replace(0.1, synonyms.table({word: ["X"] for word in words}))
    assert edited(swapped, " ".join(words)).words.count("X") == 3
    inserted = synonyms.Insert(0.2, synonyms.table({word: ["X"] for word in words}))
    assert edited(inserted, " ".join(words)).words.count("X") == 6
    found = [len(edited(order.Delete(0.1), " ".join(words), row)) for row in range(400)]
    assert np.mean(found) == pytest.approx(27, abs=0.3)


def test_spaces_around_deleted_and_inserted_words():
    def without(i, text):
        document = text_document(text)
        document.delete(i)
        return document.text()

    assert without(1, "Hello, big world!") == "Hello, world!"
    assert without(0, "big dog") == "dog"
    assert without(1, "big dog") == "big"
    assert without(1, "a\r\nb\r\nc") == "a\r\nc"
    assert without(1, "我爱你") == "我你"
    chinese = text_document("我你")
    chinese.insert_after(0, "爱", "")
    assert chinese.text() == "我爱你"


def test_synonyms_are_spelled_like_the_word(tmp_path):
    path = tmp_path / "synonyms.tsv"
    path.write_text("\ufeffBig\tlarge, very tall ,big\nquick, fast,rapid\r\n\n", encoding="utf-8")
    found = synonyms.from_file(str(path))
    assert found("big") == ["large", "very tall"]
    assert found("fast") == ["quick", "rapid"]
    assert found("slow") == ()
    assert [synonyms.spelled_like(x, "large") for x in ("big", "Big", "BIG", "I")] == ["large", "Large", "LARGE", "Large"]


def test_a_back_translation_takes_the_place_of_a_text(tmp_path):
    path = tmp_path / "back.tsv"
    path.write_text("how are  you?\thow do you do?\thow is it going?\nx\ty\n", encoding="utf-8")
    step = translations.BackTranslation(1.0, translations.read_translations(str(path)))
    texts = set()
    for row in range(20):
        document = text_document("how are\nyou?", whole=True)
        step(document, draws(row))
        texts.add(document.text())
    assert texts == {"how do you do?", "how is it going?"}
    assert edited(step, "how are you?").text() == "how are you?"  # not to be replaced as a whole


def test_neighbouring_keys():
    keys = noise.neighbouring_keys("qwerty")
    assert set(keys["s"]) == set("adwezx")
    assert set(keys["q"]) == set("wa")
    assert all(a in keys[b] for a in keys for b in keys[a])


@pytest.mark.parametrize(
    "step", [noise.Spelling(1.0), noise.Keyboard(1.0), noise.Case(1.0, "upper")], ids=lambda x: type(x).__name__
)
def test_words_of_entities_are_edited_only_where_asked(step):
    def sentence() -> Document:
        return Document(["visit", "paris", "!"], ["", " ", "", ""], [FREE, IN_PLACE, FIXED], ["O", "B-LOC", "O"])

    document = sentence()
    step(document, draws())
    assert document.words[1:] == ["paris", "!"]
    assert document.words[0] != "visit"
    document = sentence()
    type(step)(1.0, entities=True)(document, draws(2))
    assert document.words[1] != "paris"
    assert document.tags == ["O", "B-LOC", "O"]


def test_segments():
    tags = ["O", "O", "B-A", "I-A", "B-A", "O", "I-B", "I-B", "X"]
    assert order.segment_sizes(tags) == [2, 2, 1, 1, 2, 1]


def test_mentions_are_those_of_the_training_data():
    sentences = [(["in", "New", "York"], ["O", "B-L", "I-L"]), (["Paris", "and", "Ann"], ["B-L", "O", "B-P"])]
    known = mentions.mentions_of(sentences)
    assert known == {"L": [("New", "York"), ("Paris",)], "P": [("Ann",)]}
    assert mentions.words_of(sentences) == {"O": ["in", "and"], "B-L": ["New", "Paris"], "I-L": ["York"], "B-P": ["Ann"]}


def test_steps_on_pieces_spare_what_is_not_free():
    ids, free = np.arange(100, 120, dtype=np.int32), np.arange(20) % 5 > 0
    masked, left = MaskPieces(0.5, 4)(ids, free, draws())
    assert left.all()
    assert (masked[~free] == ids[~free]).all()
    assert 0 < (masked == 4).sum() < free.sum()
    same, left = DropPieces(0.5)(ids, free, draws())
    assert (same == ids).all()
    assert left[~free].all()
    assert 0 < left[free].sum() < free.sum()
    assert all(DropPieces(0.99)(ids, free, draws(row))[1][free].any() for row in range(20))


def test_synonyms_of_wordnet_are_the_lemmas_of_all_senses(monkeypatch):
    """With a stand-in for nltk, which is not among the packages of the tests."""
    senses = {"card": [["card", "playing_card"], ["tease", "Card", "card_game"]], "the": [["definite"]]}

    class Sense(list):
        def lemma_names(self):
            return list(self)

    wordnet = types.SimpleNamespace(
        ensure_loaded=lambda: None, synsets=lambda word: [Sense(x) for x in senses.get(word, [])]
    )
    for name, module in {"nltk": types.ModuleType("nltk"), "nltk.corpus": types.SimpleNamespace(wordnet=wordnet)}.items():
        monkeypatch.setitem(sys.modules, name, module)
    found = synonyms.wordnet()
    assert found("card") == ("playing card", "tease", "card game")
    assert found("the") == ()
    assert found("river") == ()
