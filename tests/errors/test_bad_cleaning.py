"""Cleaning that cannot be done is refused in one line, which names the option or the row, and writes nothing."""

import json

import pytest

from tests.support import questions


def rules(pattern: str, replacement: str = "") -> str:
    return f"--data.clean.rules={json.dumps([{'pattern': pattern, 'replacement': replacement}])}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([rules("a(")], ['data.clean.rules "a(" is not a regular expression', "position 1"]),
        ([rules("a", r"\2")], ['data.clean.rules "a": the replacement "\\2" is not valid', "group"]),
        ([rules("a", r"\g<b>")], ["unknown group name"]),
        ([rules("")], ["data.clean.rules pattern is empty", "regular expression"]),
        (["--data.clean.rules=[{patern: a}]"], ['data.clean.rules 1: unknown option "patern"', 'did you mean "pattern"']),
        ([rules("zebra")], ['data.clean.rules "zebra" changes nothing in', "train.csv", "dev.csv"]),
        (["--data.clean.scripts=[Latn]"], ['data.clean.scripts has "Latn"', 'did you mean "Latin"']),
        (["--data.clean.scripts=[zzzz]"], ['has "zzzz", which is not a Unicode script', "such as Latin"]),
        (["--data.clean.scripts=[]"], ["data.clean.scripts is []", "one or more names"]),
        (["--data.clean.min_words=3", "--data.clean.max_words=2"], ["min_words is 3", "at most data.clean.max_words 2"]),
        (["--data.clean.near_similarity=1"], ["near_similarity is 1", "below 1"]),
        (["--data.clean.min_known=1.5"], ["min_known is 1.5", "from 0 to 1"]),
        (["--data.clean.min_known=0.5"], ["min_known is set", "give model.path"]),
        (["--data.clean.unicode=NFD"], ["data.clean.unicode is NFD", "NFC, NFKC"]),
        (["--data.clean.duplicates=all"], ["data.clean.duplicates is all", "keep, exact, near"]),
        (["--data.validation=null", "--data.clean.leaks=drop"], ["data.clean.leaks is drop", "no validation or test data"]),
        (["--task.name=fill-mask", "--data.clean.conflicts=drop"], ["data.clean.conflicts is drop", "have no labels"]),
        (["--data.empty_texts=null"], ["data.empty_texts is null"]),
        (["--split=test"], ["data.test is not set"]),
        (["--split=tests"], ["--split", "invalid choice"]),
        (["--output=out.csv"], ["--output out.csv", ".jsonl or .parquet"]),
        (["--report=."], ["--report", "is a directory"]),
        (["--exct"], ['unknown option "--exct"', 'did you mean "--exact"']),
        ([rules(r"[\s\S]+")], ["train.csv: row 1 has an empty text", "after data.clean"]),
    ],
)
def test_bad_options_are_refused(fails, tiny_data, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    data = [f"--data.train={tiny_data / 'train.csv'}", f"--data.validation={tiny_data / 'dev.csv'}"]
    fails("clean", [*data, "--output=out.jsonl", *options], *words)
    assert not list(tmp_path.iterdir())


def test_the_data_is_not_overwritten(fails, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n')
    fails("clean", [f"--data.train={path}", "--output", path], str(path), "is an input file")
    assert path.read_text() == '{"text": "a", "label": "x"}\n'
    fails("clean", [f"--data.train={path}", "--output", tmp_path / "o.jsonl", "--report", path], "is an input file")


def test_an_answer_that_would_be_lost_is_refused(fails, tmp_path):
    rows = [
        {"id": "a", "question": "q", "context": "it is 7 km", "answers": {"text": ["7 km"], "answer_start": [6]}},
        {"id": "b", "question": "q", "context": "it is 7 km", "answers": {"text": ["km"], "answer_start": [8]}},
    ]
    questions.write(tmp_path / "q.json", rows)
    argv = ["--task.name=question-answering", f"--data.train={tmp_path / 'q.json'}", "--output", tmp_path / "o.jsonl"]
    words = [
        "data.clean removes or cuts 1 answers",
        '"km" in',
        "data[0].paragraphs[1].qas[0]",
        'question "b"',
        "misplaced_answers",
    ]
    fails("clean", [*argv, rules("7 km", "7 kilometres")], *words)
    assert not (tmp_path / "o.jsonl").exists()


def test_an_entity_that_would_be_lost_is_refused(fails, tmp_path):
    (tmp_path / "t.conll").write_text("the\tO\nx1\tB-loc\n")
    argv = ["--task.name=token-classification", f"--data.train={tmp_path / 't.conll'}", "--output", tmp_path / "o.jsonl"]
    fails("clean", [*argv, rules("x[0-9]")], "t.conll: line 1", 'removes or cuts "x1" (B-loc)', "data.empty_texts drop")
    text = {"text": "by the Old Mill.", "label": [[3, 11, "loc"]]}
    (tmp_path / "s.jsonl").write_text(json.dumps(text))
    argv[1] = f"--data.train={tmp_path / 's.jsonl'}"
    fails("clean", [*argv, rules("d M")], "s.jsonl: row 1", 'removes or cuts "the Old" (loc)')
    fails("clean", [*argv, rules("Old Mill", "mill")], "s.jsonl: row 1", "data.clean removes or cuts", "(loc)")


def test_a_run_that_leaves_out_every_row_is_refused(train_fails):
    train_fails(
        {"data.clean.min_words": 50}, "train.csv: data.clean leaves out every training example", "with fewer than 50 words"
    )


def test_a_run_refuses_what_its_data_cannot_have(train_fails):
    train_fails(
        {"data.validation": None, "data.clean.leaks": "drop"}, "data.clean.leaks is drop", "no validation or test data"
    )
    train_fails({"data.clean.rules": '[{pattern: "("}]'}, 'data.clean.rules "("', "not a regular expression")


OWN = """
from jaxft.tasks import texts
from jaxft.tasks.text_classification import TextClassification


class Own(TextClassification):
    @classmethod
    def read(cls, config, split, *, labelled=True):
        return texts.read(config.data, split, ["label"])


class Cleaning(Own):
    cleans_texts = True
    read = Own.read


class Inherits(TextClassification):
    pass
"""


def test_a_task_of_ones_own_must_say_that_it_cleans(tmp_path, monkeypatch):
    import datasets

    from jaxft.config import cli
    from jaxft.core.errors import UserError
    from jaxft.tasks import task_class
    from jaxft.tasks.custom import file_rows

    (tmp_path / "own_reading.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def chosen(name: str, *options: str):
        return task_class(cli.parse({}, [f"--task.name=own_reading:{name}", *options], origin=""))

    for name in ("Cleaning", "Inherits"):
        assert chosen(name, "--data.clean.whitespace=true").__name__ == name
    assert chosen("Own", "--data.clean.duplicates=near").__name__ == "Own"
    rows = datasets.Dataset.from_dict({"text": ["a", "b"]})  # which need not be those of the file
    assert file_rows(chosen("Own"), rows) is None
    assert list(file_rows(chosen("Inherits"), rows)) == [1, 2]
    with pytest.raises(UserError, match=r"data\.clean changes texts, but own_reading:Own has a read of its own"):
        chosen("Own", "--data.clean.whitespace=true")
