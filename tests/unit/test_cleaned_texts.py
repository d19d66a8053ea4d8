"""After any cleaning, answers and entities read what their own text becomes, or are refused; places lead to the file."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxft.config import CleanConfig, CleanRuleConfig, DataConfig
from jaxft.core.errors import UserError
from jaxft.data.cleaning.cleaner import Cleaner, counted, own_span
from jaxft.data.formats.clean_sentences import clean_sentences
from jaxft.data.formats.entities import Span, tags_of
from jaxft.data.formats.questions import NOWHERE, Question, own_columns, place_answers
from jaxft.data.formats.sentences import Sentences
from jaxft.data.formats.split_text import split_text
from jaxft.data.formats.tags import spans

ALL = CleanConfig(
    html_tags=True,
    html_entities=True,
    unicode="NFKC",
    control_characters=True,
    rules=[CleanRuleConfig("[0-9]+", "#"), CleanRuleConfig("(?i)read more", "")],
    whitespace=True,
)
# Pieces of text that steps change, and others that they must not tear apart.
PIECES = [
    *("<b>", "</b>", "<br/>", "<a href='x y'>", "&amp;", "&#39;", "&lt;i&gt;", "read more", "a", "B", "7", ".", "-"),
    *("\r\n", "\t", " ", "\u00a0", "\u2003", "\u200b", "\ufeff", "\x00", "\u00ad"),
    *("e\u0301", "é", "ﬁ", "①", "㎏", "\uff11\uff12", "가", "\u1100\u1161\u11a8", "\u0323"),
    *("👩\u200d👩\u200d👧", "🇩🇪", "❤\ufe0f", "שלום", "ש\u05b0", "العربية", "中文", "हिन्दी"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
CHOICES = {
    "all": ALL,
    "NFC": CleanConfig(unicode="NFC"),
    "NFKC": CleanConfig(unicode="NFKC", whitespace=True),
    "HTML": CleanConfig(html_tags=True, html_entities=True, whitespace=True),
    "control": CleanConfig(control_characters=True, whitespace=True),
}
MARKS = "\ue000", "\ue001"  # private characters, which no step touches


def between_marks(config: CleanConfig, before: str, inside: str, after: str) -> str:
    """What becomes of a part of a text, found by marks that are put around it."""
    cleaned = Cleaner(config)(MARKS[0].join([before, MARKS[1].join([inside, after])])).text
    return cleaned.split(MARKS[0])[1].split(MARKS[1])[0].strip()


@pytest.mark.parametrize("config", CHOICES.values(), ids=CHOICES)
@given(TEXTS, TEXTS, TEXTS)
@example("New ", "<b>York</b>", " City")
@example("a &lt;", "b&gt;", " c")
@example("x ", " y", "")
@example("", "e", "\u0301")
def test_an_answer_reads_what_its_own_text_becomes_or_is_refused(config, before, inside, after):
    context = before + inside + after
    if not inside.strip():
        return
    cleaned = Cleaner(config)(context)
    question = Question("7", "q", context, "a.json: row 3", "q", cleaned, [(inside, len(before))])
    (place,) = question.places()
    if place is None:
        with pytest.raises(UserError, match="removes or cuts 1 answers"):
            place_answers([question], "a.json", "error")
        assert place_answers([question], "a.json", "drop") == ([[(inside, NOWHERE)]], 1)
        return
    text, start = place
    assert cleaned.text[start : start + len(text)] == text
    assert text.strip() == between_marks(config, before, inside, after)
    # The place leads back to the answer in the file, or to what is left of it.
    (stages,) = own_columns([question])[0]["edits"]
    low, high = own_span(stages, start, start + len(text))
    assert len(before) <= low < high <= len(before + inside)


@pytest.mark.parametrize("config", CHOICES.values(), ids=CHOICES)
@given(TEXTS, st.integers(0, 40), st.integers(1, 20))
def test_a_place_of_the_new_text_leads_to_what_it_was_made_from(config, text, start, size):
    cleaned = Cleaner(config)(text)
    end = min(start + size, len(cleaned.text))
    if start >= end:
        return
    low, high = cleaned.own_span(start, end)
    assert 0 <= low <= high <= len(text)
    there = cleaned.span(low, high)
    assert there is None or (there[0] <= start and end <= there[1])


@pytest.mark.parametrize("how", ["punctuation", "spaces"])
@pytest.mark.parametrize("config", CHOICES.values(), ids=CHOICES)
@given(TEXTS, TEXTS, TEXTS)
@example("Mr. ", "<i>Smith</i>", ", of")
@example("", "中文", "\u0323")
def test_an_entity_reads_what_its_own_text_becomes_or_is_refused(how, config, before, inside, after):
    text = before + inside + after
    words = split_text(inside, "spaces")
    if not words:
        return
    start, end = len(before) + words[0][0], len(before) + words[-1][1]
    bounds, tags, _ = tags_of(text, [Span("LOC", start, end)], how)
    sentences = Sentences("row", files=[("a.json", 9)])
    sentences.add_text(text, bounds, tags, 5)
    clean_sentences(sentences, DataConfig(clean=config, empty_texts="drop"), how, "a.json")
    if not sentences.items:
        sentences.add_text(text, bounds, tags, 5)
        with pytest.raises(UserError, match=r"a\.json: row 5: data\.clean removes or cuts "):
            clean_sentences(sentences, DataConfig(clean=config), how, "a.json")
        return
    (found,) = sentences.items
    ((kind, first, past),) = spans(found.tags)
    assert kind == "LOC"
    assert found.own is not None
    assert len(found.words) == len(found.tags) == len(found.own.words)
    own = found.own.bounds[first][0], found.own.bounds[past - 1][1]
    assert start <= own[0] < own[1] <= end
    assert found.own.text == text
    assert found.own.words == [text[a:b] for a, b in found.own.bounds]
    if how == "punctuation":
        assert found.words == [found.text[a:b] for a, b in found.bounds]
        entity = found.text[found.bounds[first][0] : found.bounds[past - 1][1]]
        want = between_marks(config, text[:start], text[start:end], text[end:])
        assert entity == "".join(want[a:b] for a, b in [_outer(want)])
    else:
        assert found.words == [Cleaner(config)(word).text for word in found.own.words]
        assert found.own.tags == tags


def _outer(text: str) -> tuple[int, int]:
    """From the first word of a text to the last."""
    words = split_text(text, "spaces")
    return words[0][0], words[-1][1]


def test_steps_are_applied_in_their_order_and_counted():
    clean = Cleaner(ALL)
    with counted() as counts:
        assert clean("<p>Fish &lt;b&gt;  &amp;\u200b chips \uff11\uff12 READ MORE</p>").text == "Fish <b> & chips #"
        assert clean("plain").text == "plain"
    names = ["html_tags", "html_entities", "unicode", "control_characters", "whitespace"]
    assert dict(counts) == dict.fromkeys([*names, 'rules "[0-9]+"', 'rules "(?i)read more"'], 1)
    assert not Cleaner(CleanConfig(duplicates="near", min_words=3))
