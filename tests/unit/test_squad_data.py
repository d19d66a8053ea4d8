"""Questions are read from every form to the same rows; errors are described in one line."""

import csv
import json

import pytest

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.formats.squad import NOWHERE, read_questions
from jaxft.data.reading.empty_texts import empty_rows
from jaxft.tasks.question_answering import QuestionAnswering
from tests.support import questions


def read(path, split="train", *, labelled=True, misplaced="error", **columns):
    return read_questions(DataConfig(**{split: str(path)}, **columns), split, labelled=labelled, misplaced=misplaced)


def lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def table(path, rows, header):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_every_form_gives_the_same_rows(tmp_path):
    import datasets

    rows = questions.make(9, seed=0, unanswerable=0.4)
    assert {bool(row["answers"]["text"]) for row in rows} == {True, False}
    (tmp_path / "flat.json").write_text(json.dumps({"version": 2.0, "data": rows}))
    (tmp_path / "list.json").write_text(json.dumps(rows))
    structs = [
        row | {"answers": [{"text": t, "answer_start": s} for t, s in zip(*row["answers"].values(), strict=True)]}
        for row in rows
    ]
    single = []
    for row in rows:
        pairs = list(zip(*row["answers"].values(), strict=True)) or [("", "")]
        single += [[row["context"], row["question"], text, start, row["id"]] for text, start in pairs]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    datasets.DatasetDict(train=datasets.Dataset.from_list(rows)).save_to_disk(tmp_path / "saved")
    files = [
        questions.write(tmp_path / "squad.json", rows),
        tmp_path / "flat.json",
        tmp_path / "list.json",
        lines(tmp_path / "rows.jsonl", rows),
        lines(tmp_path / "lines.json", rows),
        lines(tmp_path / "structs.jsonl", structs),
        tmp_path / "rows.parquet",
        table(tmp_path / "rows.csv", single, ["context", "question", "answers", "answer_start", "id"]),
    ]
    for file in files:
        assert read(file).to_list() == rows, file.name
        asked = [row[1] for row in single] if file.suffix == ".csv" else [row["question"] for row in rows]
        assert read(file, "test", labelled=False)["question"][:] == asked
    hub = DataConfig(dataset=str(tmp_path / "saved"), train="train")
    assert read_questions(hub, "train", labelled=True, misplaced="error").to_list() == rows


def test_columns_of_a_csv_file_may_be_named(tmp_path):
    """SubjQA's form: several rows per question, (start, end), and a mark for no answer at the end of every context."""
    context = "the old river runs NONE"
    rows = [
        ["7", "which river", context, "old river", "(4, 13)"],
        ["8", "which bridge", context, "NONE", "(19, 23)"],
        ["7", "which river", context, "river", "[8, 13]"],
    ]
    names = ["key", "ask", "review", "span", "place"]
    columns = dict(zip(("id", "question", "context", "answers", "answer_start"), names, strict=True))
    found = read(table(tmp_path / "a.csv", rows, names), no_answer="NONE", **columns).to_list()
    assert [row["answers"] for row in found] == [
        {"text": ["old river", "river"], "answer_start": [4, 8]},
        {"text": [], "answer_start": []},
    ]
    assert {row["context"] for row in found} == {"the old river runs "}
    assert read(tmp_path / "a.csv", **columns)[1]["answers"] == {"text": ["NONE"], "answer_start": [19]}


def test_questions_without_ids_are_numbered(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "id"} for row in questions.make(3, seed=1)]
    assert read(lines(tmp_path / "a.jsonl", rows))["id"][:] == ["1", "2", "3"]


def test_misplaced_answers_are_refused_or_dropped(tmp_path, capsys):
    """The error counts them; dropped, they have no position, and training questions without another answer are left out."""
    rows = questions.make(4, seed=2)
    rows[1]["answers"]["answer_start"][0] += 1
    rows[2]["answers"]["answer_start"] = [-1, 999]
    path = questions.write(tmp_path / "a.json", rows)
    with pytest.raises(
        UserError, match=r'a\.json: 3 of 8 answers are not .* question "q2-1" .*task\.misplaced_answers drop'
    ):
        read(path)
    found = read(path, misplaced="drop")
    report = capsys.readouterr().err
    assert report.count("\n") == 1
    assert "3 of 8 answers" in report
    assert found["id"][:] == ["q2-0", "q2-1", "q2-3"]
    assert found[1]["answers"]["answer_start"] == [NOWHERE, rows[1]["answers"]["answer_start"][1]]
    assert found[1]["answers"]["text"] == rows[1]["answers"]["text"]
    evaluated = read(path, "validation", misplaced="drop")
    assert evaluated[2]["answers"] == {"text": rows[2]["answers"]["text"], "answer_start": [NOWHERE, NOWHERE]}
    path.write_text(json.dumps(questions.nested([rows[2]])))
    with pytest.raises(UserError, match=r"a\.json: no answer is at its offset"):
        read(path, misplaced="drop")


def changed(**values):
    """A good row, and one with other values."""
    good, bad = questions.make(2, seed=3)
    return [good, bad | values]


ROWS = {
    "id twice": (changed(id="q3-0"), ["row 2", 'the id "q3-0" occurs twice', "row 1"]),
    "no id": (changed(id=None), ["row 2", 'no id in "id"']),
    "empty context": (changed(context=" \t"), ["row 2", "empty context", "data.empty_texts"]),
    "no context": (changed(context=None), ["row 2", "empty context"]),
    "empty question": (changed(question=""), ["row 2", "empty question"]),
    "question is a number": (changed(question=5), ["row 2", "5", '"question"', "must be text"]),
    "answers of two lengths": (changed(answers={"text": ["a"], "answer_start": []}), ["row 2", "q3-1", "of one length"]),
    "answers are a number": (changed(answers=4), ["row 2", "answers are 4", "answer_start"]),
    "answer is no text": (changed(answers={"text": [1], "answer_start": [0]}), ["row 2", "an answer is 1", "must be text"]),
    "start is no number": (changed(answers={"text": ["a"], "answer_start": ["x"]}), ["row 2", "start is 'x'", "character"]),
    "start is missing": (changed(answers=[{"text": "a"}]), ["row 2", "start is None"]),
    "no start column": (changed(answers="sun"), ["row 2", 'no column "answer_start"', "data.answer_start"]),
    "no such column": ([{"question": "q", "answer": "a", "context": "c"}], ['row 1 has no "answers"', '"answer"']),
    "no rows": ([], ["no questions"]),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_bad_row_is_refused(tmp_path, case):
    rows, words = ROWS[case]
    (tmp_path / "a.json").write_text(json.dumps({"data": rows}))
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.json")
    assert str(error.value).startswith(f"{tmp_path / 'a.json'}: ")
    for word in words:
        assert word in str(error.value)


FILES = {
    "predictions": ({"q1": "an answer"}, ["not in the SQuAD format", '"data"']),
    "a list of texts": (["a", "b"], ["not in the SQuAD format"]),
    "no qas": ({"data": [{"paragraphs": [{"context": "c"}]}]}, ["data[0].paragraphs[0]", 'no list of "qas"']),
    "no answers": (
        {"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "1", "question": "q"}]}]}]},
        ["data[0].paragraphs[0].qas[0]", 'no list of "answers"'],
    ),
    "no context": (
        {"data": [{"paragraphs": [{"qas": [{"id": "1", "question": "q", "answers": []}]}]}]},
        ["data[0].paragraphs[0].qas[0]", "empty context"],
    ),
    "no paragraphs": ({"data": [{"paragraphs": []}]}, ["no questions"]),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_squad_file_is_refused(tmp_path, case):
    content, words = FILES[case]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.json")
    for word in ["a.json", *words]:
        assert word in str(error.value)


def test_one_id_for_two_questions_of_a_csv_file_is_refused(tmp_path):
    rows = [["1", "q", "the sun", "sun", "4"], ["1", "other", "the sun", "sun", "4"]]
    path = table(tmp_path / "a.csv", rows, ["id", "question", "context", "answers", "answer_start"])
    with pytest.raises(UserError, match=r'row 2: the id "1" occurs twice \(first in row 1\)'):
        read(path)


def test_without_labels_every_row_is_a_question(tmp_path):
    """Whatever its id, which defaults to the row's number, and whether it is usable or not."""
    one, other = {"id": "2", "question": "who", "context": "the sun"}, {"question": "what", "context": "the sun"}
    rows = [one, other | {"id": None}, one, other | {"id": "2"}, one | {"context": ""}, one | {"context": None}]
    path = lines(tmp_path / "a.jsonl", rows)
    found = read(path, "test", labelled=False, empty_texts="null")
    assert found["id"][:] == ["2"] * 6
    assert found["question"][:] == ["who", "what", "who", "what", "who", "who"]
    assert empty_rows(found).tolist() == [False] * 4 + [True] * 2
    with pytest.raises(UserError, match='questions 1 and 2 have the id "2", and a json file holds one answer per id'):
        QuestionAnswering.check_document(found)
    QuestionAnswering.check_document(found.select([0]))


def test_a_row_number_may_equal_the_id_of_another_row(tmp_path):
    good = questions.make(1, seed=3)[0]
    unnamed = {name: x for name, x in good.items() if name != "id"}
    (tmp_path / "a.json").write_text(json.dumps([good | {"id": "2"}, unnamed]))
    assert read(tmp_path / "a.json").to_list() == [good | {"id": "2"}] * 2


def test_empty_contexts_are_dropped_on_request(tmp_path):
    rows = changed(context="")
    path = questions.write(tmp_path / "a.json", rows)
    assert read(path, empty_texts="drop")["id"][:] == [rows[0]["id"]]


def test_real_files_are_read(shared_data):
    """XQuAD, a sample of SQuAD 2 as Hugging Face keeps it, and SubjQA with its misplaced answers."""
    assert len(read(shared_data / "xquad/xquad.zh.json")) == 1190
    sample = read(shared_data / "hf_fixtures/SQUAD/sample.json")
    assert [bool(answers["text"]) for answers in sample["answers"]].count(False) == 6
    columns = {
        "id": "q_review_id",
        "context": "review",
        "answers": "human_ans_spans",
        "answer_start": "human_ans_indices",
        "no_answer": "ANSWERNOTFOUND",
    }
    file = shared_data / "subjqa/electronics/dev.csv"
    with pytest.raises(UserError, match="19 of 99 answers"):
        read(file, "validation", **columns)
    rows = read(file, "validation", misplaced="drop", **columns)
    assert len(rows) == 255  # the number in the paper
    assert not any("ANSWERNOTFOUND" in context for context in rows["context"])
