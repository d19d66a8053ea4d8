"""Entities as character spans, in the formats of several tools, become tags of words; errors name the row."""

import json

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.formats import tags
from jaxft.data.formats.entities import Span, tags_of
from jaxft.data.formats.sentences import split_mode
from jaxft.data.formats.tagged import read_sentences

TEXT = "🙂 Anna Bell's cat, in Paris."
SPANS = [(2, 11, "PER"), (22, 27, "LOC")]
WORDS = ["🙂", "Anna", "Bell", "'", "s", "cat", ",", "in", "Paris", "."]
TAGS = ["O", "B-PER", "I-PER", "O", "O", "O", "O", "O", "B-LOC", "O"]


def utf16(place: int) -> int:
    return len(TEXT[:place].encode("utf-16-le")) // 2


def studio(*annotations, **more) -> dict:
    """A task of Label Studio, whose offsets count as JavaScript does."""
    results = [
        [
            {"type": "labels", "value": {"start": utf16(a), "end": utf16(b), "text": TEXT[a:b], "labels": [kind]}}
            for a, b, kind in spans
        ]
        for spans in annotations
    ]
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    return {
        "id": 7,
        "data": {"text": TEXT},
        "annotations": [{"result": [*x, choice]} for x in results],
        "predictions": [],
    } | more


def named(start: str, end: str, kind: str, **more) -> list[dict]:
    return [{start: a, end: b, kind: name} | more for a, b, name in SPANS]


ROWS = {
    "doccano": {"id": 1, "text": TEXT, "label": [list(x) for x in SPANS], "Comments": []},
    "doccano, later": {"text": TEXT, "entities": named("start_offset", "end_offset", "label", id=3), "relations": []},
    "prodigy": {"text": TEXT, "tokens": [{"text": "x"}], "spans": named("start", "end", "label"), "answer": "accept"},
    "pipeline": {"text": TEXT, "entities": named("start", "end", "entity_group", score=0.5, word="x")},
    "label studio": studio(SPANS),
    "label studio, short": {"text": TEXT, "label": [x["value"] for x in studio(SPANS)["annotations"][0]["result"][:-1]]},
    "our own predictions": {"text": TEXT, "words": WORDS, "tags": TAGS, "entities": named("start", "end", "type", score=1)},
    "backwards, twice": {"text": TEXT, "label": [list(x) for x in SPANS[::-1]] * 2},
    "with blanks": {"text": TEXT, "label": [[1, 11, "PER"], [21, 27, "LOC"]]},
}  # fmt: skip


def read(path, *rows, label: str | None = "label", **options):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return read_sentences(DataConfig(train=str(path), **options), "train", label)


@pytest.mark.parametrize("form", ROWS)
def test_every_format_gives_the_same_tags(tmp_path, form):
    empty = {"text": "Nobody.", "label": [], "spans": [], "entities": []}
    rows = read(tmp_path / "a.jsonl", ROWS[form], empty)
    assert rows["words"][:] == [WORDS, ["Nobody", "."]]
    assert rows["tags"][:] == [TAGS, ["O", "O"]]
    assert rows["text"][:] == [TEXT, "Nobody."]
    assert [TEXT[a:b] for a, b in zip(rows["begins"][0], rows["ends"][0], strict=True)] == WORDS
    assert split_mode(rows) == "punctuation"


@pytest.mark.parametrize("first", [[], SPANS])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_one_column_holds_the_spans_of_all_rows(tmp_path, first, ending):
    """Whatever else is called `label`."""
    texts = [(TEXT, first), ("Nobody.", []), (TEXT, SPANS)]
    rows = [{"text": text, "label": "news", "entities": [list(map(str, x)) for x in spans]} for text, spans in texts]
    if ending == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
        found = read_sentences(DataConfig(train=str(tmp_path / "a.parquet")), "train", "label")
    else:
        rows = [{"text": text, "label": "news", "entities": spans} for text, spans in texts]
        found = read(tmp_path / "a.jsonl", *rows)
    assert found["tags"][:] == [TAGS if first else ["O"] * len(TAGS), ["O", "O"], TAGS]


def test_spans_are_read_from_json_csv_parquet_and_saved_data_sets(tmp_path):
    """JSON as a list; csv as pandas writes it; parquet and saved data sets with lists of objects."""
    (tmp_path / "a.json").write_text(json.dumps([studio(SPANS), studio([])]))
    kept = datasets.Dataset.from_list([{"text": TEXT, "label": named("start", "end", "label")}, {"text": TEXT, "label": []}])
    kept.to_parquet(tmp_path / "a.parquet")
    kept.save_to_disk(tmp_path / "a")
    quoted = TEXT.replace('"', '""')
    (tmp_path / "a.csv").write_text(f'text,label\n"{quoted}","{SPANS!r}"\n"{quoted}",[]\n', encoding="utf-8")
    for name in ("a.json", "a.parquet", "a", "a.csv"):
        rows = read_sentences(DataConfig(train=str(tmp_path / name)), "train", "label")
        assert rows["tags"][:] == [TAGS, ["O"] * len(TAGS)], name


def test_words_are_split_where_entities_begin_and_end(tmp_path, capsys):
    rows = read(tmp_path / "a.jsonl", {"text": "서울에서 x", "label": [[0, 2, "LOC"]]}, split_words="spaces")
    assert (rows["words"][0], rows["tags"][0]) == (["서울", "에서", "x"], ["B-LOC", "O", "O"])
    assert "a.jsonl: 1 words were cut because an entity begins or ends within them" in capsys.readouterr().err


def test_rejected_and_unannotated_rows_are_left_out_and_counted(tmp_path, capsys):
    accepted = {"text": "a b", "answer": "accept"}
    rows = read(tmp_path / "a.jsonl", ROWS["prodigy"], ROWS["prodigy"] | {"answer": "reject"}, accepted)
    assert rows["tags"][:] == [TAGS, ["O", "O"]]
    assert rows["row"][1] == [3, 3]
    rows = read(tmp_path / "a.jsonl", studio(SPANS), studio(), studio(SPANS, SPANS), studio([]))
    assert rows["tags"][:] == [TAGS, TAGS, ["O"] * len(TAGS)]
    assert capsys.readouterr().err.count("left out 1 rows that are rejected or not annotated") == 2


def test_unannotated_tasks_are_read_for_prediction(tmp_path):
    rows = read(tmp_path / "a.jsonl", studio(), {"data": {"text": " "}}, label=None, empty_texts="null")
    assert rows["words"][:] == [WORDS, ["."]]
    assert "tags" not in rows.column_names


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    text=st.text("ab .,\u0301é🙂\u200d京 \u00a0\n", min_size=1, max_size=30),
    edges=st.lists(st.integers(0, 30), max_size=8),
    how=st.sampled_from(["spaces", "punctuation"]),
)
def test_no_span_is_lost_and_none_moves(text, edges, how):
    pairs = zip(*[iter(sorted({min(x, len(text)) for x in edges}))] * 2, strict=False)
    spans = [Span("x", a, b) for a, b in pairs if not any(x.isspace() for x in (text[a], text[b - 1]))]
    bounds, found, _ = tags_of(text, spans, how)
    again = [Span(kind, bounds[first][0], bounds[past - 1][1]) for kind, first, past in tags.spans(found)]
    assert again == spans


BAD = {
    "overlap": ([[0, 4, "A"], [3, 6, "B"]], '"Pari" (0 to 4, A) and "is" (3 to 5, B) overlap'),
    "same place, two types": ([[0, 4, "A"], [0, 4, "B"]], "overlap"),
    "outside": ([[6, 99, "A"]], "the span 6 to 99 (A) is outside of the text, which has 8 characters"),
    "empty": ([[3, 3, "A"]], "the span 3 to 3 (A) is empty"),
    "backwards": ([[4, 2, "A"]], "the span 4 to 2 (A) ends before it begins"),
    "negative": ([[-2, 2, "A"]], "the span -2 to 2 (A) begins before the text"),
    "blank": ([[5, 6, "A"]], "the span 5 to 6 (A) contains no word"),
    "no label": ([[0, 4]], "has the span [0, 4]: must be [start, end, label]"),
    "label first": ([["A", 0, 4]], "must be [start, end, label]"),
    "part of a character": ([[0, 4.5, "A"]], "must be [start, end, label]"),
    "two labels": ([{"start": 0, "end": 4, "labels": ["A", "B"]}], "one label"),
    "another text": ([{"start": 0, "end": 4, "label": "A", "text": "Rome"}], 'is "Pari" in the text, but should be "Rome"'),
    "tags of pieces": ([{"entity": "B-A", "start": 0, "end": 4}], 'has "B-A"', "aggregation_strategy"),
    "no list": ("A", "must be a list of spans"),
    "mixed": ([[0, 4, "A"], "B"], "must be a list of spans"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_span_is_refused_by_row(tmp_path, case):
    value, *words = BAD[case]
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.jsonl", {"text": "x y", "label": [[0, 1, "A"]]}, {"text": "Paris ok", "label": value})
    for word in ("a.jsonl: row 2", *words):
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (studio(SPANS, SPANS[:1]), "has 2 annotations that differ"),
        ({"data": {"a": "x", "b": "y"}, "annotations": [{"result": []}]}, "data has a, b; name the text in data.text"),
        ({"text": 5, "label": [[0, 1, "A"]]}, "must be a text, beside its spans"),
        ({"text": " ", "label": []}, "has no words"),
        ({"text": "\ud800 a", "label": []}, "lone surrogates"),
        ({"text": "a"}, "must be a list of spans"),
    ],
)
def test_a_bad_row_is_refused(tmp_path, row, words):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "x y", "label": [[0, 1, "A"]]}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError, match=r"a\.jsonl: row 2") as error:
        read_sentences(DataConfig(train=str(path)), "train", "label")
    assert words in str(error.value)
