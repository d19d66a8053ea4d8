"""Data with huge numbers, deep nesting, half characters or endless labels: one short line within seconds."""

import time
from dataclasses import replace

import datasets
import pytest

from jaxft.config import Config
from jaxft.data.formats.squad import read_questions
from jaxft.data.reading.label_spelling import in_order
from jaxft.data.reading.sources import read_rows
from jaxft.tasks.labels import label_values
from tests.support.hostile import DIGITS, NEST, refused


@pytest.mark.parametrize("lines", [True, False], ids=["jsonl", "json"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (DIGITS, "not valid JSON (Exceeds the limit (4300 digits)"),
        (NEST, "not valid JSON (brackets are nested too deep)"),
        ("[" * 900 + "]" * 900, "row 3 has [[["),
        (r'"a \ud800 b"', r"row 3 has 'a \ud800 b' in column"),
        (r'"\udc00\ud800"', "must be text without lone surrogates"),
    ],
)
@pytest.mark.parametrize("column", ["text", "label"])
def test_hostile_values_are_named_by_row(tmp_path, column, value, words, lines):
    rows = ['{"text": "a b", "label": "x"}', '{"text": "a c", "label": "y"}']
    text, label = (value if name == column else '"x"' for name in ("text", "label"))
    rows.append(f'{{"text": {text}, "label": {label}}}')
    path = tmp_path / ("rows.jsonl" if lines else "rows.json")
    path.write_text("\n".join(rows) if lines else f"[{', '.join(rows)}]")
    data = replace(Config().data, train=str(path))
    refused(lambda: read_rows(data, "train", needed=["text", "label"]), f"{path}: ", words)


def test_deeply_nested_columns_are_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": %s}\n' % ("[" * 900 + "]" * 900))
    data = replace(Config().data, train=str(tmp_path / "rows.jsonl"))
    refused(lambda: read_rows(data, "train", needed=["text"]), "rows 1 to 1 hold lists or objects more than 30 levels deep")


@pytest.mark.parametrize("name", ["context", "question", "id", "answer"])
def test_half_characters_in_questions_are_refused(tmp_path, name):
    values = {x: r'"\ud800 b"' if x == name else '"a b"' for x in ("context", "question", "id", "answer")}
    answer = f'{{"text": {values["answer"]}, "answer_start": 0}}'
    question = f'{{"id": {values["id"]}, "question": {values["question"]}, "answers": [{answer}]}}'
    text = f'{{"data": [{{"paragraphs": [{{"context": {values["context"]}, "qas": [{question}]}}]}}]}}'
    (tmp_path / "squad.json").write_text(text)
    data = replace(Config().data, train=str(tmp_path / "squad.json"))
    where = "data[0].paragraphs[0].qas[0]"
    refused(lambda: read_questions(data, "train", labelled=True, misplaced="drop"), where, "without lone surrogates")


def test_long_labels_take_little_time(tmp_path):
    """The package's own patterns must not backtrack over a text again and again."""
    labels = ["9" * 100_000 + "x", "0 1" + " " * 100_000 + "x", "1" * 100_000 + "." + "0" * 100_000 + "x"]
    start = time.process_time()
    assert set(in_order(labels, "here")) == set(labels)
    assert label_values(datasets.Dataset.from_dict({"label": labels}), "label", "here") == labels
    assert time.process_time() - start < 2
