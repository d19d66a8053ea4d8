"""Cleaning steps give what Unicode and HTML say, and every span of a text still reads as it should after them."""

import re
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxft.config import CleanConfig, CleanRuleConfig
from jaxft.data.cleaning import steps
from jaxft.data.cleaning.cleaner import Cleaner
from jaxft.data.cleaning.edits import Edit, apply

# Letters with marks, compatibility forms, Hangul, Tibetan, emoji, right-to-left and invisible characters.
ODD = (
    "aA e\u0301\u00e9\ufb01\u2460\u338f \uac00\uac01\u1100\u1161\u11a8\u0323\u0307\u0bc6\u0bbe\u0f71\u0f72"
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea\u200d\ufe0f\u05e9\u05dc\u05d5\u05dd\u05b0"
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629\u4e2d\u6587\uff11\uff12\r\n\t\u00a0\u2003\u200b\ufeff\x00"
)
TEXTS = st.text(st.one_of(st.sampled_from(ODD), st.characters(codec="utf-8")), max_size=30)


@given(TEXTS, st.sampled_from(["NFC", "NFKC"]))
@example("e\u0323\u0301x", "NFC")
@example("\u1100\u1161\u11a8", "NFC")
@example("\uff76\uff9e", "NFKC")
def test_normalisation_is_that_of_unicode(text, form):
    assert apply(text, steps.normalize(form)(text)).text == unicodedata.normalize(form, text)


ALL = {
    "NFC": steps.normalize("NFC"),
    "NFKC": steps.normalize("NFKC"),
    "control": steps.remove_control_characters,
    "entities": steps.unescape_entities,
    "tags": steps.remove_tags,
    "whitespace": steps.collapse_whitespace,
    "rule": steps.substitute(re.compile(r"[0-9]+"), "#"),
}


@pytest.mark.parametrize("step", ALL.values(), ids=ALL)
@given(TEXTS, st.integers(0, 30), st.integers(1, 12))
def test_a_span_reads_what_its_own_text_becomes(step, text, start, size):
    """Or the step says that it cannot tell."""
    span = start, min(start + size, len(text))
    if span[0] >= span[1]:
        return
    edits = step(text)
    found = apply(text, edits).span(*span)
    inside = [Edit(x.start - span[0], x.end - span[0], x.text) for x in edits if span[0] <= x.start and x.end <= span[1]]
    cut = any(x.start < side < x.end for x in edits for side in span)
    want = apply(text[slice(*span)], inside).text
    if cut or not want:
        assert found is None
    else:
        assert apply(text, edits).text[slice(*found)] == want


PLAIN = re.compile(
    r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>|</?[A-Za-z][A-Za-z0-9:-]*(?:\s[^<>]*)?/?>|<(?:script|style)\b[^<>]*>",
    re.S | re.I,
)
PARTS = ["<!--", "-->", "<script>", "</script >", "<STYLE a>", "</style>", "<b>", "</p>", "<br/>", "x", " ", "<", ">"]


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_tags_are_those_of_one_expression(text):
    assert [(x.start, x.end) for x in steps.remove_tags(text)] == [m.span() for m in PLAIN.finditer(text)]


@pytest.mark.parametrize("part", ["<!--", "<script>", "<script>x", "<b", "</", "&#"])
def test_long_texts_take_linear_time(part):
    begin = time.process_time()
    steps.remove_tags(part * 50_000)
    steps.unescape_entities(part * 50_000)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    ("options", "text", "span"),
    [
        ({"html_tags": True, "rules": [CleanRuleConfig("$", "y")]}, "<b>", (0, 1)),
        ({"control_characters": True, "rules": [CleanRuleConfig("^", "x")]}, "\x1c", (0, 1)),
        ({"html_tags": True, "rules": [CleanRuleConfig("a*", "-")]}, "\u00e9</b>", (2, 3)),
    ],
    ids=str,
)
def test_a_span_of_inserted_text_has_a_place_in_the_file(options, text, span):
    start, end = Cleaner(CleanConfig(**options))(text).own_span(*span)
    assert 0 <= start <= end <= len(text)
