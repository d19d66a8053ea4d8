"""Cleaning steps give what Unicode and HTML say, and every span of a text still reads as it should after them."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxft.data.cleaning import steps
from jaxft.data.cleaning.edits import Edit, apply

ODD = (
    "aA e\u0301éﬁ①㎏ 가각\u1100\u1161\u11a8\u0323\u0307\u0bc6\u0bbe\u0f71\u0f72"
    "👩\u200d👩\u200d👧🇩🇪\u200d\ufe0fשל\u05d5ם\u05b0\u0627لعربية中文\uff11\uff12\r\n\t\xa0\u2003\u200b\ufeff\x00"
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
