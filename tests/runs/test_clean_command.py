"""`jaxft clean`: the file that it writes is read back to the cleaned rows, and the report names what was found."""

import json
from pathlib import Path

import pytest

from jaxft import clean
from jaxft.config import cli
from jaxft.tasks import task_class
from tests.support import questions, read_jsonl

ALL = ["html_tags", "html_entities", "control_characters", "whitespace"]
EDITS = [f"--data.clean.{name}=true" for name in ALL]


def run(*argv: object) -> None:
    clean.main([*map(str, argv), "--runtime.distributed=off"])


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def read(argv: list[str], source: Path, split: str = "train"):
    """The rows of a file as a run reads them."""
    config = cli.parse({}, [*argv, f"--data.{split}={source}"], origin="")
    return task_class(config).read(config, split)


@pytest.fixture
def texts(tmp_path) -> Path:
    train = [
        {"text": "the <b>river</b> &amp; the  lake", "label": "calm"},
        {"text": "The river & the lake", "label": "calm"},
        {"text": "storm\u200b over the bridge", "label": "angry"},
        {"text": "storm over the bridge", "label": "merry"},
        {"text": "a song", "label": "merry"},
        {"text": "in the dev data", "label": "merry"},
    ]
    dev = [{"text": "in  the dev data", "label": "merry"}, {"text": "a lake", "label": "calm"}]
    write_lines(tmp_path / "train.jsonl", train)
    write_lines(tmp_path / "dev.jsonl", dev)
    return tmp_path


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_texts_are_cleaned_and_rows_left_out(texts, capsys, form):
    data = [f"--data.train={texts / 'train.jsonl'}", f"--data.validation={texts / 'dev.jsonl'}"]
    drops = ["--data.clean.duplicates=exact", "--data.clean.conflicts=drop", "--data.clean.leaks=drop"]
    output, report = texts / f"out.{form}", texts / "report.json"
    run(*data, *EDITS, *drops, "--output", output, "--report", report)
    rows = read([], output)
    assert rows.to_list() == [
        {"text": "the river & the lake", "label": "calm"},
        {"text": "a song", "label": "merry"},
    ]
    said = capsys.readouterr().err
    for line in (
        "train: 6 examples of",
        "train: duplicates: 1; row 2 repeats row 1",
        'train: texts with several labels: 1; row 3 "angry" and row 4 "merry"',
        "leaks, train in validation (1 exact): 1; row 6 repeats row 1",
        "texts changed by each step: html_tags 1, html_entities 1, whitespace 2, control_characters 1",
        "left out: 1 also in the validation data",
        "left out: 2 with several labels",
        "left out: 1 duplicate\n",
        "search for duplicates and leaks: exact and near ones (similarity of at least 0.75)",
        f"wrote 2 of 6 examples to {output}",
    ):
        assert line in said, line
    found = json.loads(report.read_text(encoding="utf-8"))
    where = f"{texts / 'train.jsonl'}: row "
    assert found["left out"]["with several labels"] == [f"{where}3", f"{where}4"]
    assert found["leaks"]["train in validation"] == [
        {"row": f"{where}6", "other": f"{texts / 'dev.jsonl'}: row 1", "similarity": 1.0, "exact": True}
    ]
    assert found["splits"]["validation"]["labels"] == {"merry": 1, "calm": 1}
    assert found["drift"]["validation against train"]["labels"][0][0] in ("calm", "merry", "angry")


def test_only_texts_of_other_splits_change(texts):
    data = [f"--data.train={texts / 'train.jsonl'}", f"--data.validation={texts / 'train.jsonl'}"]
    drops = ["--data.clean.duplicates=near", "--data.clean.conflicts=drop"]
    run(*data, *EDITS, *drops, "--split=validation", "--output", texts / "out.jsonl", "--exact")
    assert len(read_jsonl(texts / "out.jsonl")) == 6


def test_near_duplicates_that_are_left_out_are_reported(texts, capsys):
    rows = [{"text": x, "label": "calm"} for x in ("where is my new card?", "Where is my new card", "in the dev data!")]
    write_lines(texts / "train.jsonl", rows)
    data = [f"--data.train={texts / 'train.jsonl'}", f"--data.validation={texts / 'dev.jsonl'}", "--output=none"]
    run(*data, "--exact")
    assert "search for duplicates and leaks: exact ones only" in capsys.readouterr().err
    near = ["--data.clean.duplicates=near", "--data.clean.near_similarity=0.6"]
    run(*data, *near, "--exact", "--report", texts / "report.json")
    said = capsys.readouterr().err
    assert "leaks: exact ones; near ones only within train (similarity of at least 0.6)" in said
    assert "train: near duplicates: 1; row 2 repeats row 1" in said
    assert "left out: 1 near duplicate\n" in said
    assert "leaks" not in said.partition("\n")[2]
    found = json.loads((texts / "report.json").read_text())
    assert "near duplicates" not in found["splits"]["validation"]
    run(*data, "--data.clean.leaks=drop", "--exact")
    said = capsys.readouterr().err
    assert "near ones only of train in validation" in said
    assert "leaks, train in validation (0 exact): 1; row 3 repeats row 1" in said
    assert "left out: 1 nearly in the validation data\n" in said


def test_leaks_are_sought_in_all_rows(texts, capsys):
    """`data.max_eval_examples` limits what is evaluated."""
    write_lines(texts / "dev.jsonl", [{"text": "a lake", "label": "calm"}, {"text": "in  the dev data", "label": "merry"}])
    data = [f"--data.train={texts / 'train.jsonl'}", f"--data.validation={texts / 'dev.jsonl'}", "--output=none"]
    run(*data, "--data.max_eval_examples=1", "--data.clean.leaks=drop")
    assert "left out: 1 also in the validation data" in capsys.readouterr().err


def test_nothing_is_removed_or_changed_that_was_not_asked_for(texts, capfd):
    run(f"--data.train={texts / 'train.jsonl'}", "--output", texts / "out.jsonl")
    assert read_jsonl(texts / "out.jsonl") == read_jsonl(texts / "train.jsonl")
    assert "left out" not in capfd.readouterr().err
    run(f"--data.train={texts / 'train.jsonl'}", "--output", "-")
    assert [json.loads(line) for line in capfd.readouterr().out.splitlines()] == read_jsonl(texts / "train.jsonl")


def test_names_of_labels_are_written(tmp_path):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"text": ["a <b>x</b>", "b", "c"], "label": [1, 0, 1]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "in.parquet"))
    for form in ("jsonl", "parquet"):
        run(f"--data.train={tmp_path / 'in.parquet'}", *EDITS, "--output", tmp_path / f"out.{form}")
    assert read_jsonl(tmp_path / "out.jsonl") == [
        {"text": "a x", "label": "yes"},
        {"text": "b", "label": "no"},
        {"text": "c", "label": "yes"},
    ]
    assert read([], tmp_path / "out.parquet").features["label"].names == ["no", "yes"]


def test_answers_keep_their_places(tmp_path):
    task = ["--task.name=question-answering", "--task.unanswerable=true"]
    rows = questions.make(8, seed=1, unanswerable=0.3)
    for row in rows:
        start = row["answers"]["answer_start"][:1] or [0]
        row["context"] = f"<p>  {row['context'][: start[0]]}&amp; {row['context'][start[0] :]}</p>"
        row["answers"]["answer_start"] = [x + len("<p>  &amp; ") for x in row["answers"]["answer_start"]]
    questions.write(tmp_path / "in.json", rows)
    run(*task, f"--data.train={tmp_path / 'in.json'}", *EDITS, "--output", tmp_path / "out.jsonl")
    for written, row in zip(read_jsonl(tmp_path / "out.jsonl"), rows, strict=True):
        assert written["context"].startswith("&") or " & " in written["context"]
        assert written["answers"]["text"] == row["answers"]["text"]
        for text, start in zip(*written["answers"].values(), strict=True):
            assert written["context"][start:].startswith(text)
    again = read(task, tmp_path / "out.jsonl")
    assert again.to_list() == [{**x, "answers": x["answers"]} for x in read_jsonl(tmp_path / "out.jsonl")]


def test_words_keep_their_tags(tmp_path):
    task = ["--task.name=token-classification"]
    (tmp_path / "in.conll").write_text("AT&amp;T\tB-org\n\u200b\tO\nin\tO\nthe\tO\n\nl<i>a</i>ke\tO\n", encoding="utf-8")
    run(*task, f"--data.train={tmp_path / 'in.conll'}", *EDITS, "--output", tmp_path / "out.jsonl")
    assert read_jsonl(tmp_path / "out.jsonl") == [
        {"text": ["AT&T", "in", "the"], "label": ["B-org", "O", "O"]},
        {"text": ["lake"], "label": ["O"]},
    ]
    own = read([*task, *EDITS], tmp_path / "in.conll")
    assert own["words"][:] == [["AT&T", "", "in", "the"], ["lake"]]
    assert own["own words"][:] == [["AT&amp;T", "\u200b", "in", "the"], ["l<i>a</i>ke"]]
    config = cli.parse({}, task, origin="")
    assert task_class(config).row_labels(own, config, "") == [("B-org", "O", "O"), ("O",)]


def test_entities_keep_their_places(tmp_path):
    task = ["--task.name=token-classification", "--data.label=spans"]
    text = "<p>Fish &amp; Chips Ltd. in  New<br>York, ok.</p>"
    spans = [[3, text.index(". in"), "org"], [text.index("New"), text.index(", ok"), "loc"]]
    write_lines(tmp_path / "in.jsonl", [{"text": text, "spans": spans}])
    for form in ("jsonl", "parquet"):
        run(*task, f"--data.train={tmp_path / 'in.jsonl'}", *EDITS, "--output", tmp_path / f"out.{form}")
    (written,) = read_jsonl(tmp_path / "out.jsonl")
    assert written["text"] == "Fish & Chips Ltd. in New York, ok."
    assert [(x["label"], written["text"][x["start"] : x["end"]]) for x in written["spans"]] == [
        ("org", "Fish & Chips Ltd"),
        ("loc", "New York"),
    ]
    cleaned = read([*task, *EDITS], tmp_path / "in.jsonl")
    for form in ("jsonl", "parquet"):
        again = read(task, tmp_path / f"out.{form}")
        assert (again["words"][:], again["tags"][:]) == (cleaned["words"][:], cleaned["tags"][:])
    assert [text[b:e] for b, e in zip(*(cleaned[f"own {x}"][0] for x in ("begins", "ends")), strict=True)] == cleaned[
        "own words"
    ][0]


def test_choices_lines_and_pairs_are_cleaned(tmp_path):
    choice = ["--task.name=multiple-choice", "--data.choices=[a, b]", "--data.text_pair=start"]
    row = {"text": "the  <b>sun</b>", "start": "", "a": "r&amp;b", "b": " and", "label": 1}
    write_lines(tmp_path / "choices.jsonl", [row])
    rows = read([*choice, *EDITS], tmp_path / "choices.jsonl")
    assert rows.to_list() == [{"text": "the sun", "start": "", "a": "r&b", "b": "and", "label": 1}]
    write_lines(tmp_path / "lists.jsonl", [{"text": "x", "ends": ["<b>y</b>", "z "], "label": 0}])
    lists = read(["--task.name=multiple-choice", "--data.choices=[ends]", *EDITS], tmp_path / "lists.jsonl")
    assert lists["ends"][:] == [["y", "z"]]
    (tmp_path / "lines.txt").write_text("one  <b>line</b>\n<br>\ntwo\n\nthree &lt;\n")
    lines = read(["--task.name=fill-mask", *EDITS], tmp_path / "lines.txt")
    assert lines["text"][:] == [["one line", "", "two"], ["three <"]]
    pretraining = read(["--task.name=pretraining", *EDITS], tmp_path / "lines.txt")
    assert pretraining["text"][:] == [["one line", "two"], ["three <"]]
    write_lines(tmp_path / "documents.jsonl", [{"text": "a  b\n<br>\nc"}])
    assert read(["--task.name=pretraining", *EDITS], tmp_path / "documents.jsonl")["text"][:] == ["a b\nc"]


def test_rows_of_several_files_keep_their_names(tmp_path):
    from jaxft.data.reading.row_numbers import row_names

    for name in "ab":
        write_lines(tmp_path / f"{name}.jsonl", [{"text": f"{name} <i>{i}</i>", "label": "x"} for i in range(3000)])
    config = cli.parse({}, [*EDITS, f"--data.train={tmp_path}/*.jsonl"], origin="")
    rows = task_class(config).read(config, "train")
    assert rows["text"][2999:3001] == ["a 2999", "b 0"]
    assert row_names(rows, "x")(4000) == f"{tmp_path / 'b.jsonl'}: row 1001"


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "question-answering", "fill-mask"])
def test_texts_that_become_empty_are_predicted_as_null(tmp_path, task):
    from jaxft.data.reading.empty_texts import empty_rows

    rows = [
        {"text": "a <b>b</b>", "question": "q", "context": "c"},
        {"text": "<br> \u200b", "question": "q", "context": "<p></p>"},
    ]
    write_lines(tmp_path / "in.jsonl", rows)
    argv = [f"--task.name={task}", f"--data.test={tmp_path / 'in.jsonl'}", "--data.empty_texts=null", *EDITS]
    config = cli.parse({}, argv, origin="")
    found = task_class(config).read(config, "test", labelled=False)
    assert empty_rows(found).tolist() == [False, True]


def test_texts_of_the_same_words_are_near_and_not_exact(tmp_path, capsys):
    write_lines(tmp_path / "a.jsonl", [{"text": "where is my card?", "label": "x"}, {"text": "Hi  there", "label": "y"}])
    write_lines(tmp_path / "b.jsonl", [{"text": "Where is my card", "label": "x"}, {"text": "hi there", "label": "y"}])
    run(f"--data.train={tmp_path / 'a.jsonl'}", f"--data.test={tmp_path / 'b.jsonl'}", "--output=none")
    assert "leaks, train in test (1 exact): 2; row 1 repeats row 1, row 2 repeats row 2" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_columns_that_the_task_does_not_read_stay(tmp_path, form):
    """They are unchanged and in their order, whatever rows before them are left out."""
    import datasets

    texts = ["a  <b>song</b>", "the lake", "THE lake", " ", "a storm", "the sun"]
    rows = [
        {"id": f"{i}", "text": text, "day": f"2020-01-0{i + 1}", "label": "xxxyyy"[i], "more &amp;": f"<b>{i}  "}
        for i, text in enumerate(texts)
    ]
    for name, some in (("a", rows[:2]), ("b", rows[2:])):
        saved = datasets.Dataset.from_list(some)
        if form == "parquet":
            saved = saved.cast_column("day", datasets.Value("date32")).cast_column(
                "label", datasets.ClassLabel(names=["x", "y"])
            )
        {"csv": saved.to_csv, "jsonl": saved.to_json, "parquet": saved.to_parquet}[form](str(tmp_path / f"{name}.{form}"))
    data = [f"--data.train={tmp_path}/*.{form}", *EDITS, "--data.empty_texts=drop", "--data.clean.duplicates=exact"]
    for end in ("jsonl", "parquet"):
        run(*data, "--output", tmp_path / f"out-{end}.{end}")
    written = read_jsonl(tmp_path / "out-jsonl.jsonl")
    assert written == [
        {**rows[i], "text": " ".join(rows[i]["text"].replace("<b>", "").replace("</b>", "").split())} for i in (0, 1, 4, 5)
    ]
    assert [list(row) for row in written] == [list(rows[0])] * 4
    again = datasets.Dataset.from_parquet(str(tmp_path / "out-parquet.parquet"))
    assert [str(x) for x in again["day"]] == [row["day"] for row in written]
    if form == "parquet":
        assert again.features["label"].names == ["x", "y"]


def test_single_values_of_tagged_rows_stay(tmp_path, capsys):
    """Lists may no longer fit the words."""
    task = ["--task.name=token-classification", "--data.text=words", "--data.label=tags"]
    rows = [{"id": 7, "words": ["a", "\u200b", "b"], "pos": ["X", "Y", "Z"], "tags": ["B-x", "O", "O"]}]
    write_lines(tmp_path / "lists.jsonl", [*rows, {"id": 8, "words": ["c"], "pos": ["X"], "tags": ["O"]}])
    run(*task, f"--data.train={tmp_path / 'lists.jsonl'}", *EDITS, "--output", tmp_path / "out.jsonl")
    assert read_jsonl(tmp_path / "out.jsonl") == [
        {"id": 7, "words": ["a", "b"], "tags": ["B-x", "O"]},
        {"id": 8, "words": ["c"], "tags": ["O"]},
    ]
    (tmp_path / "words.csv").write_text("id,sentence,text,label\n1,1,a,B-x\n2,1,b,O\n3,2,c,O\n")
    task = ["--task.name=token-classification"]
    run(*task, f"--data.train={tmp_path / 'words.csv'}", *EDITS, "--output", tmp_path / "out.jsonl")
    assert read_jsonl(tmp_path / "out.jsonl")[0] == {"text": ["a", "b"], "label": ["B-x", "O"]}
    spans = {"id": 9, "text": "<b>a</b>, b", "spans": [[3, 4, "x"]], "answer": "accept", "meta": {"a": 1}}
    write_lines(tmp_path / "spans.jsonl", [spans])
    run(*task, "--data.label=spans", f"--data.train={tmp_path / 'spans.jsonl'}", *EDITS, "--output", tmp_path / "out.jsonl")
    (row,) = read_jsonl(tmp_path / "out.jsonl")
    assert row == {"id": 9, "text": "a, b", "spans": [{"start": 0, "end": 1, "label": "x"}], "answer": "accept"}


def test_columns_that_cannot_be_read_are_named(tmp_path, capsys):
    write_lines(tmp_path / "in.jsonl", [{"text": "a", "label": "x", "meta": 1}, {"text": "b", "label": "y", "meta": [1]}])
    run(f"--data.train={tmp_path / 'in.jsonl'}", "--output", tmp_path / "out.jsonl")
    assert "the columns meta are left out: " in capsys.readouterr().err
    assert read_jsonl(tmp_path / "out.jsonl") == [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
