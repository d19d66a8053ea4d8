"""Rows without a usable text in prediction keep their position, are marked, and are null in the output."""

import json

import datasets
import numpy as np
import pytest

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.formats.squad import read_questions
from jaxft.data.formats.tagged import read_sentences
from jaxft.data.reading import empty_texts
from jaxft.tasks import texts
from jaxft.tasks.multiple_choice import _choices


def config(path, *rows, **options):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataConfig(test=str(path), empty_texts="null", **options)


def test_unusable_texts_are_marked(tmp_path):
    values = ["river", "", None, " \t", ["x"], "\ud800", "storm"]
    data = config(tmp_path / "a.jsonl", *({"text": x} for x in values))
    rows = texts.read(data, "test")
    assert rows["text"][:] == ["river", *[empty_texts.PLACEHOLDER] * 5, "storm"]
    assert empty_texts.empty_rows(rows).tolist() == [False, *[True] * 5, False]


@pytest.mark.parametrize("values", [[5, 7], [5, "river"], ["river", 5], [5, ["x"], "river"], [["x"], 5, "river"]])
def test_numbers_are_unusable_texts(tmp_path, values):
    data = config(tmp_path / "a.jsonl", *({"text": x} for x in values))
    assert empty_texts.empty_rows(texts.read(data, "test")).tolist() == [x != "river" for x in values]
    data = config(tmp_path / "b.jsonl", *({"question": x, "context": "the sun"} for x in values))
    assert empty_texts.empty_rows(read_questions(data, "test", labelled=False, misplaced="error")).tolist() == [
        x != "river" for x in values
    ]


@pytest.mark.parametrize("other", [["river"], [6]])
def test_numbers_are_unusable_words(tmp_path, other):
    data = config(tmp_path / "a.jsonl", {"text": [5]}, {"text": other}, {"text": ["a", 5]})
    rows = read_sentences(data, "test", None)
    assert empty_texts.empty_rows(rows).tolist() == [True, other == [6], True]


def test_a_pair_needs_both_texts(tmp_path):
    data = config(tmp_path / "a.jsonl", {"text": "a", "b": "c"}, {"text": "a", "b": ""}, {"text": "a"}, text_pair="b")
    assert empty_texts.empty_rows(texts.read(data, "test")).tolist() == [False, True, True]


def test_rows_without_words_are_marked(tmp_path):
    values = [["the", "sun"], [], None, "", ["x", None]]
    data = config(tmp_path / "a.jsonl", *({"text": x} for x in values))
    rows = read_sentences(data, "test", None)
    assert rows["words"][:] == [["the", "sun"], *[[empty_texts.PLACEHOLDER]] * 4]
    assert empty_texts.empty_rows(rows).tolist() == [False, True, True, True, True]


def test_questions_without_texts_are_marked(tmp_path):
    good = {"id": "a", "question": "what", "context": "the sun"}
    data = config(
        tmp_path / "a.jsonl", good, good | {"id": "b", "context": ""}, {"id": "c", "question": "why"}, good | {"id": None}
    )
    rows = read_questions(data, "test", labelled=False, misplaced="error")
    assert rows["id"][:] == ["a", "b", "c", "4"]
    assert empty_texts.empty_rows(rows).tolist() == [False, True, True, False]


def test_rows_without_all_choices_are_marked(tmp_path):
    data = config(tmp_path / "a.jsonl", *({"text": "a", "c": x} for x in (None, ["x", "y"], ["x"], ["x", ""], ["y", "x"])))
    rows = texts.read(data, "test", ["c"])
    names, choices, found = _choices(rows, ["c"], "x", invalid_is_null=True)
    assert names == ["0", "1"]
    assert choices[-1] == ["y", "x"]
    assert {len(x) for x in choices} == {2}
    assert found.tolist() == [True, False, True, True, False]
    with pytest.raises(UserError, match="x: row 1 has None"):
        _choices(rows, ["c"], "x", invalid_is_null=False)


@pytest.mark.parametrize("first", [["y", "x", "z", "w"], ["y", None, "z"], ["y", "", "z"], ["y"], []])
def test_the_number_of_choices_is_that_of_most_rows(first):
    rows = datasets.Dataset.from_dict({"c": [first, ["a", "b", "c"], ["d", "e", "f"]]})
    _, choices, found = _choices(rows, ["c"], "x", invalid_is_null=True)
    assert found.tolist() == [True, False, False]
    assert {len(x) for x in choices} == {3}
    with pytest.raises(UserError, match=r"row 1 has \d choices in column"):
        _choices(rows, ["c"], "x", invalid_is_null=False)


def test_every_row_may_lack_its_choices():
    nothing = datasets.Dataset.from_dict({"a": ["x", None], "b": [None, "y"], "c": [None, None], "d": ["['x', 'y']", "z"]})
    for columns in (["a", "b"], ["c"]):
        assert _choices(nothing, columns, "x", invalid_is_null=True)[2].all()
    with pytest.raises(UserError, match=r"row 1 has .* must be texts to choose from"):
        _choices(nothing, ["d"], "x", invalid_is_null=True)


def test_predictions_are_null_except_for_their_id():
    rows = [{"id": "a", "answer": "x", "n_best": []}, {"id": "b", "answer": "y", "n_best": [1]}]
    found = list(empty_texts.nulls(rows, np.array([False, True])))
    assert found == [rows[0], {"id": "b", "answer": None, "n_best": None}]
    assert [empty_texts.is_null(row) for row in found] == [False, True]


def test_null_is_for_prediction_only():
    with pytest.raises(UserError, match=r"data\.empty_texts is null, which is for jaxft\.predict only"):
        empty_texts.check_not_kept(DataConfig(empty_texts="null"))
