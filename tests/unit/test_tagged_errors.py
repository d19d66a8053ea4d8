"""Errors of tagged files name the file and the line or row in it."""

import json

import pytest

from jaxft.core.errors import UserError
from jaxft.tasks.tag_labels import read_tags, tag_ids
from tests.support.tagged import read

BAD = {
    "no tag at the end": ("a.conll", "The\tO\nold\n", ["line 2 has 1 columns", "the first word's line has 2"]),
    "more columns": ("a.conll", "The O\n\nold JJ O\n", ["line 3 has 3 columns"]),
    "plain text": ("a.txt", "The old bridge\nThe sun\n", ["line 2 has 2 columns", "has 3"]),
    "one column": ("a.txt", "The\nold\n", ["one column", "a word and its tag"]),
    "empty word": ("a.tsv", "The\tO\n\tO\n", ["line 2 has no word"]),
    "empty tag": ("a.tsv", "The\tO\nold\t\n", ["line 2 has no tag"]),
    "empty document": ("a.txt", "-DOCSTART- O\n\nThe O\n\n-DOCSTART- O\n\n-DOCSTART- O\nold O\n", ["line 5", "document"]),
    "empty last document": ("a.txt", "The O\n-DOCSTART- O\n\n", ["line 2", "document without words", "data.empty_texts"]),
    "no sentences": ("a.txt", "\n\n", ["no sentences"]),
    "empty file": ("a.conll", "", ["the file is empty (data.train)"]),
    "numbers for words": ("a.txt", "1\tThe\tO\n2\told\tO\n\n1\tsun\tO\n", ["first column holds numbers", "data.columns"]),
    "sentences": ("a.txt", "The sun is out\nA river runs there\n", ["a.txt: the lines are sentences", "data.train"]),
    "not ten columns": ("a.conllu", "1\tThe\t_\tDET\n", ["line 1 has 4 columns", "CoNLL-U has 10"]),
    "no form": ("a.conllu", "1\t\t_\tDET" + 6 * "\t_" + "\n", ["line 1 has no word"]),
    "not a pair": ("train", "a:O b:O <=> x\na:O b <=> x\n", ["line 2", '"b"', "word:tag"]),
    "counts differ": ("a.jsonl", '{"text": ["a", "b"], "label": ["O"]}\n', ["row 1 has 2 words but 1 tags"]),
    "counts of text differ": ("a.csv", "text,label\na,O\na b,O O O\n", ["row 2 has 2 words but 3 tags"]),
    "no words": ("a.jsonl", '{"text": ["a"], "label": ["O"]}\n{"text": [], "label": []}\n', ["row 2 has no words"]),
    "null": ("a.jsonl", '{"text": ["a"], "label": ["O"]}\n{"text": null, "label": ["O"]}\n', ["row 2", "None", "words"]),
    "null tags": ("a.jsonl", '{"text": ["a"], "label": ["O"]}\n{"text": ["b"], "label": null}\n', ["row 2", "tags"]),
    "null word": ("a.jsonl", '{"text": ["a", null], "label": ["O", "O"]}\n', ["row 1", "list of words"]),
    "number": ("a.jsonl", '{"text": 5, "label": ["O"]}\n', ["row 1", "5", "list of words"]),
    "blank tag": ("a.jsonl", '{"text": ["a"], "label": [" "]}\n', ["row 1 has an empty tag"]),
    "no column": ("a.jsonl", '{"words": ["a"], "label": ["O"]}\n', ['no column "text"', "words"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused(tmp_path, case):
    name, text, words = BAD[case]
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as error:
        read(tmp_path / name)
    for word in [name, *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "a.conll").write_bytes(b"The O\ncaf\xe9 O\n")
    with pytest.raises(UserError, match=r"a\.conll: line 2 is not UTF-8 \(byte 0xe9\)"):
        read(tmp_path / "a.conll")


def test_tags_outside_the_scheme_are_named_by_line(tmp_path):
    (tmp_path / "a.conll").write_text("The\tO\n\nold\tO\nbridge\tplace\n")
    rows = read(tmp_path / "a.conll")
    with pytest.raises(UserError, match=r'x: line 4 has the tag "place" \("bridge"\), which is neither O nor begins'):
        read_tags(rows, [], "auto", "x")
    with pytest.raises(UserError, match=r'x: line 4 has the tag "place" \("bridge"\), which is not one of the 1 known'):
        tag_ids(rows, [], ["O"], "none", "x")


FAULTS = {
    "counts": ({"text": ["a", "b"], "label": ["O"]}, "has 2 words but 1 tags"),
    "words": ({"text": [], "label": []}, "has no words"),
    "value": ({"text": ["a"], "label": None}, 'has None in column "label"'),
    "tag": ({"text": ["a"], "label": [" "]}, "has an empty tag"),
    "span": ({"text": "a", "label": [[0, 9, "x"]]}, ""),
    "text of a span": ({"text": " ", "label": [[0, 1, "x"]]}, "has no words"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_messages_count_rows_within_their_file(tmp_path, case):
    row, words = FAULTS[case]
    good = {"text": "a", "label": [[0, 1, "x"]]} if "span" in case else {"text": ["a"], "label": ["O"]}
    for name, rows in (("a", [good, good]), ("b", [good, row])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in rows))
    with pytest.raises(UserError) as error:
        read(tmp_path / "*.jsonl")
    assert f"{tmp_path / 'b.jsonl'}: row 2" in str(error.value)
    assert words in str(error.value)
    assert "a.jsonl" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "first", "second", "unit"),
    [
        ("conll", "a O\n\nb O\n", "a O\nb ?\n", "line 2"),
        ("conllu", "1\ta" + 8 * "\tO" + "\n", "1\ta" + 8 * "\tO" + "\n2\tb" + 8 * "\t?" + "\n", "line 2"),
        ("jsonl", 2 * '{"text": ["a"], "label": ["O"]}\n', '{"text": ["a", "b"], "label": ["O", "?"]}\n', "row 1"),
        ("jsonl", 2 * '{"text": "a", "label": [[0, 1, "x"]]}\n', '{"text": "a b", "label": [[2, 3, "?"]]}\n', "row 1"),
        ("csv", "text,label,sentence\na,O,1\na,O,1\n", "text,label,sentence\na,O,2\nb,?,2\n", "row 2"),
    ],
)
def test_messages_about_tags_name_their_file(tmp_path, kind, first, second, unit):
    (tmp_path / f"a.{kind}").write_text(first)
    (tmp_path / f"b.{kind}").write_text(second)
    rows = read([str(tmp_path / f"{x}.{kind}") for x in "ab"])
    rows = rows.select([len(rows) - 1])  # as if the others were left out
    with pytest.raises(UserError, match=rf'^{tmp_path}/b\.{kind}: {unit} has the tag "(B-)?\?" \("b"\), which is not one'):
        tag_ids(rows, [], ["O", "B-x"], "none", "a, b")
