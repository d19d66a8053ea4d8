"""Texts are split into words, without losing or moving a character."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data.formats.split_text import split_text

ODD = (
    "aB1 \t\n\u00a0\u3000\u200b\ufeff.,'_-$\u0301\u0308\u00e9\U0001f600\U0001f44d\U0001f3fd\u200d\U0001f1eb\U0001f1f7"
    "\u4eac\u304b\u30ab\u3105\uc11c\u0e17\u0e32\u0928\u094d\u0947"
)


@pytest.mark.parametrize(
    ("text", "spaces", "punctuation"),
    [
        ("  John lives\tin Paris. ", "John|lives|in|Paris.", "John|lives|in|Paris|."),
        ("don't stop—U.S.", "don't|stop—U.S.", "don|'|t|stop|—|U|.|S|."),
        ("a\u00a0b\u3000c\u200bd", "a|b|c|d", "a|b|c|d"),
        ("cafe\u0301s na\u00efve", "cafe\u0301s|na\u00efve", "cafe\u0301s|na\u00efve"),
        ("\u0301x !\u0301", "\u0301x|!\u0301", "\u0301x|!\u0301"),
        ("👩\u200d👩\u200d👧👍🏽👍 🇫🇷🇩🇪 1\ufe0f\u20e3", None, "👩\u200d👩\u200d👧|👍🏽|👍|🇫🇷|🇩🇪|1\ufe0f\u20e3"),
        ("我在New York。", "我在New|York。", "我|在|New|York|。"),
        ("\uff76\uff9e\uff76", "\uff76\uff9e\uff76", "\uff76\uff9e|\uff76"),
        ("서울에서 नमस्ते", "서울에서|नमस्ते", "서울에서|नमस्ते"),
        ("\u0e01\u0e34\u0e19", "\u0e01\u0e34\u0e19", "\u0e01\u0e34|\u0e19"),
        ("\u0645\u200c\u0647", "\u0645\u200c\u0647", "\u0645\u200c\u0647"),
        (" \u200b\n", "", ""),
        ("", "", ""),
    ],
)
def test_texts_are_split_into_words(text, spaces, punctuation):
    for how, words in (("spaces", spaces), ("punctuation", punctuation)):
        if words is not None:
            assert [text[begin:end] for begin, end in split_text(text, how)] == words.split("|") * bool(words)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=st.text(st.sampled_from(ODD) | st.characters(), max_size=24))
def test_every_character_but_blanks_is_in_one_word(text):
    found = {how: split_text(text, how) for how in ("punctuation", "spaces")}
    for bounds in found.values():
        flat = [x for pair in bounds for x in pair]
        assert flat == sorted(flat)
        assert all(begin < end for begin, end in bounds)
        between = set(range(len(text))) - {x for begin, end in bounds for x in range(begin, end)}
        assert all(text[i].isspace() or text[i] in "\u200b\ufeff" or ord(text[i]) < 160 for i in between)
        assert not any(x.isspace() for begin, end in bounds for x in text[begin:end])
    edges = {x for pair in found["punctuation"] for x in pair}
    assert edges >= {x for pair in found["spaces"] for x in pair}  # both split at blanks
