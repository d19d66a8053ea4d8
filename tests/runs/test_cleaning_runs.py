"""Runs with `data.clean`: the same texts in training, evaluation and prediction; rows left out; places in the file."""

import csv
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jaxft import evaluate, predict
from jaxft.config import CleanConfig, CleanRuleConfig
from jaxft.core.errors import UserError
from jaxft.data.cleaning.cleaner import Cleaner
from jaxft.run import rundir
from jaxft.run.setup import make_run
from jaxft.run.stored_cleaning import cleaned_as_stored, with_cleaning
from jaxft.train import train
from tests.support import questions, read_jsonl, tiny
from tests.support.resuming import assert_resume_is_exact, short_config

EDITS = {"html_tags": True, "html_entities": True, "control_characters": True, "whitespace": True}
OPTIONS = [*(f"--data.clean.{name}=true" for name in EDITS), "--data.clean.unicode=NFKC"]
UNDO = CleanConfig(**EDITS, unicode="NFKC")
# A clean word among others -> how the file has it.
DIRT = {"the": "<b>the</b>", "river": "ri\u200bver", "runs": "runs<br>", "storm": "st&#111;rm", "lake": "l<i>a</i>ke"}


def dirty(text: str) -> str:
    return "  ".join(DIRT.get(word, word) for word in text.split(" "))


# Ways to write a word, and white space, that cleaning undoes.
FORMS = (
    str,
    "<b>{}</b>".format,
    "{}<br>".format,
    lambda word: f"{word[0]}\u200b{word[1:]}",
    lambda word: f"&#{ord(word[0])};{word[1:]}",
    lambda word: f"{word[0]}<i class='&amp;'>{word[1:]}</i>",
    lambda word: "".join(chr(ord(x) + 0xFEE0) for x in word),  # full-width
)
SPACES = (" ", "  ", "\r\n", "\u00a0", "\u3000", "<p> ", " <!-- x --> ")


def soiled(text: str, seed: int) -> str:
    """A text that cleaning turns into the given one, with random markup, entities, wide letters and spaces."""
    choose = random.Random(seed).choice
    first, *rest = text.split(" ")
    return choose(FORMS)(first) + "".join(choose(SPACES) + choose(FORMS)(word) for word in rest)


def write_dirty(source: Path, target: Path, extra: list[list[str]] = ()) -> Path:
    with open(source, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with open(target, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *([dirty(text), label] for text, label in rows), *extra])
    return target


@pytest.fixture(scope="module")
def folder(tiny_data, tmp_path_factory) -> Path:
    """The tiny data with markup and invisible characters; train.csv has 5 more rows that may be left out."""
    folder = tmp_path_factory.mktemp("dirty")
    with open(tiny_data / "train.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    with open(tiny_data / "dev.csv", newline="", encoding="utf-8") as file:
        leaked = list(csv.reader(file))[3]
    extra = [[rows[4][0].upper(), rows[4][1]], leaked, ["\u0440\u0435\u043a\u0430", "calm"]]
    extra += [["a b c d", "calm"], ["A b  c d", "merry"]]
    write_dirty(tiny_data / "train.csv", folder / "train.csv", extra)
    for name in ("dev", "test"):
        write_dirty(tiny_data / f"{name}.csv", folder / f"{name}.csv")
    return folder


DROPS = {"duplicates": "exact", "leaks": "drop", "conflicts": "drop", "scripts": ["Latin"], "near_similarity": 0.99}


def clean_config(model: Path, folder: Path, output: Path, /, **sections):
    data = {**sections.pop("data", {}), "clean": {**EDITS, **DROPS}}
    return tiny.run_config(model, folder, output, model=tiny.NO_DROPOUT, data=data, **sections)


def test_rows_are_left_out_of_training_only(tiny_model, folder, tmp_path):
    from jaxft.data.reading.row_numbers import row_numbers

    whole = make_run(clean_config(tiny_model, folder, tmp_path / "a"))
    kept = row_numbers(whole.data["train"].rows).tolist()
    assert not {101, 102, 103, 104, 105} & {*kept}
    (note,) = [line for line in whole.notes if "data.clean" in line]
    assert note.startswith(f"{folder / 'train.csv'}: {105 - len(kept)} of 105 training examples are left out (data.clean): ")
    for reason in ("also in the validation data", "2 with several labels", "duplicate", "1 mostly not Latin"):
        assert reason in note
    assert len(whole.data["validation"].rows) == 30
    texts = whole.data["train"].rows["text"][:]
    assert not any(set(text) & set("<>&\u200b") or "  " in text for text in texts)
    # The rows that are set aside do not depend on what is left out, and are not left out themselves.
    share = {"validation": None, "validation_share": 0.2}
    held = make_run(clean_config(tiny_model, folder, tmp_path / "b", data=share))
    plain = replace(held.config, data=replace(held.config.data, clean=CleanConfig(**EDITS)))
    for run in (held, make_run(plain)):
        assert len(run.data["validation"].rows) == 21
        assert row_numbers(run.data["validation"].rows).tolist() == row_numbers(held.data["validation"].rows).tolist()


def test_leaks_are_sought_in_all_rows_that_could_be_evaluated(tiny_model, folder, tmp_path):
    """`data.max_eval_examples` and the rows that are set aside change nothing about what is a leak."""
    found = {}
    for name, data in (("file", {}), ("limit", {"max_eval_examples": 1})):
        run = make_run(clean_config(tiny_model, folder, tmp_path / name, data=data))
        found[name] = [line for line in run.notes if "data.clean" in line]
    assert len(run.data["validation"].rows) == 1
    assert found["limit"] == found["file"]
    assert "also in the validation data" in found["file"][0]
    whole = make_run(clean_config(tiny_model, folder, tmp_path / "s", data={"validation": None, "validation_share": 0.5}))
    share = {"validation": None, "validation_share": 0.5, "max_eval_examples": 1}
    limited = make_run(clean_config(tiny_model, folder, tmp_path / "l", data=share))
    assert [x for x in limited.notes if "data.clean" in x] == [x for x in whole.notes if "data.clean" in x]


def test_a_rule_that_changes_nothing_is_refused(tiny_model, folder, tmp_path):
    """Unless it changes a text of some split; limits on examples do not matter."""
    config = clean_config(tiny_model, folder, tmp_path / "run", data={"max_train_examples": 20})
    make_run(replace(config, data=replace(config.data, clean=CleanConfig(rules=[CleanRuleConfig("reka|\u0440\u0435")]))))
    clean = CleanConfig(rules=[CleanRuleConfig("zebra")])
    with pytest.raises(UserError, match=r'data\.clean\.rules "zebra" changes nothing in .*train\.csv, .*dev\.csv'):
        make_run(replace(config, data=replace(config.data, clean=clean)))


def test_unknown_words_and_lengths_leave_rows_out(tiny_model, folder, tmp_path):
    config = tiny.run_config(tiny_model, folder, tmp_path / "run")
    clean = CleanConfig(**EDITS, min_known=0.5, min_words=4, max_words=8)
    run = make_run(replace(config, data=replace(config.data, clean=clean)))
    assert all(4 <= len(text.split()) <= 8 for text in run.data["train"].rows["text"])
    notes = [line.split("(data.clean): ")[1] for line in run.notes if "data.clean" in line]
    reasons = [[reason.split(" ", 1)[1] for reason in note.split(", ")] for note in notes]
    assert reasons == [["with fewer than 4 words", "with more than 8 words"], ["with less than 0.5 of the tokens known"]]


@pytest.fixture(scope="module")
def run(tiny_model, folder, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("cleaned") / "run"
    train(clean_config(tiny_model, folder, output, train={"epochs": 1}))
    return output


def test_evaluation_and_prediction_clean_as_training_did(run, tiny_data, folder, tmp_path):
    """Also from the model directory alone; and the same texts in clean files give the same."""
    dev = ["--data.max_length=32", "--data.validation"]
    scores = evaluate.main([str(run), *dev, str(folder / "dev.csv")])
    assert evaluate.main([str(run / "model"), *dev, str(folder / "dev.csv")])["loss"] == scores["loss"]
    assert evaluate.main([str(run), *dev, str(tiny_data / "dev.csv")])["loss"] == scores["loss"]
    rows = []
    for model, source in ((run, folder), (run / "model", folder), (run, tiny_data)):
        argv = ["--input", str(source / "test.csv"), "--output", str(tmp_path / "o.jsonl"), "--data.max_length=32"]
        predict.main([str(model), *argv])
        rows.append([row["scores"] for row in read_jsonl(tmp_path / "o.jsonl")])
    for found in rows[1:]:
        assert all(x == pytest.approx(y, rel=1e-5) for x, y in zip(found, rows[0], strict=True))
    embedded = []
    for source in (folder, tiny_data):
        predict.main([str(run / "model"), *argv[:1], str(source / "test.csv"), *argv[2:], "--features=mean"])
        embedded.append(read_jsonl(tmp_path / "o.jsonl"))
    assert embedded[0] == embedded[1]


def test_a_run_with_other_cleaning_is_another_run(run, tiny_model, folder):
    config = clean_config(tiny_model, folder, run, train={"epochs": 1})
    assert rundir.check_claim(config)
    other = replace(config, data=replace(config.data, clean=replace(config.data.clean, conflicts="keep")))
    with pytest.raises(UserError, match=r"data\.clean\.conflicts \(drop there, keep here\)"):
        rundir.check_claim(other)


def test_a_resumed_run_leaves_the_same_rows_out(tiny_model, folder, tmp_path):
    clean = {**EDITS, "duplicates": "near", "conflicts": "drop", "min_words": 2}
    data = {"validation": None, "clean": clean}
    assert_resume_is_exact(tiny_model, folder, tmp_path, "model/model.safetensors", data=data)


def test_cleaning_is_stored_with_the_model_and_not_inherited():
    rules = [CleanRuleConfig("x+", "y")]
    config = short_config(Path("m"), Path("d"), Path("o"))
    cleaned = replace(config, data=replace(config.data, clean=CleanConfig(unicode="NFC", rules=rules, duplicates="exact")))
    stored = json.loads(json.dumps(with_cleaning({"a": 1, "task_specific_params": {"other": {}}}, cleaned), default=vars))
    assert stored["task_specific_params"] == {
        "other": {},
        "jaxft": {"clean": {"unicode": "NFC", "rules": [{"pattern": "x+", "replacement": "y"}]}},
    }
    assert cleaned_as_stored(config, stored).data.clean == CleanConfig(unicode="NFC", rules=rules)
    assert cleaned_as_stored(cleaned, stored) == cleaned
    assert with_cleaning(stored, config) == {"a": 1, "task_specific_params": {"other": {}}}
    assert with_cleaning({"a": 1}, config) == {"a": 1}
    stored["task_specific_params"]["jaxft"]["clean"] = {"colour": 1}
    with pytest.raises(UserError, match=r"config\.json: task_specific_params\.jaxft\.clean"):
        cleaned_as_stored(config, stored)


def test_answers_are_those_of_the_file(tmp_path):
    """They are the answers for the clean text, with their places in the text as it is in the file."""
    model = questions.write_model(tmp_path / "model")
    rows = questions.make(12, seed=3, longest=14)
    rows *= 3
    file_rows = [
        {**row, "id": str(i), "context": soiled(row["context"], i), "question": dirty(row["question"])}
        for i, row in enumerate(rows)
    ]
    assert [Cleaner(UNDO)(row["context"]).text for row in file_rows] == [row["context"] for row in rows]
    found = {}
    for name, given in (("clean", rows), ("dirty", file_rows)):
        numbered = [{**x, "id": str(i)} for i, x in enumerate(given)]
        questions.write(tmp_path / f"{name}.json", [{**x, "answers": {"text": [], "answer_start": []}} for x in numbered])
        argv = ["--input", str(tmp_path / f"{name}.json"), "--output", str(tmp_path / "o.jsonl"), "--data.max_length=40"]
        predict.main([str(model), *argv, *OPTIONS])
        found[name] = read_jsonl(tmp_path / "o.jsonl")
    for clean, own, row in zip(found["clean"], found["dirty"], file_rows, strict=True):
        assert row["context"][own["start"] : own["end"]] == own["answer"]
        assert [x["answer"] for x in own["n_best"]] == [row["context"][x["start"] : x["end"]] for x in own["n_best"]]
        assert own["score"] == clean["score"]
        assert Cleaner(UNDO)(own["answer"]).text == clean["answer"]


def test_words_and_entities_are_those_of_the_file(tmp_path):
    from tests.support import tagged

    model, folder = tmp_path / "model", tagged.write_files(tmp_path)
    tiny.write_model(model)
    train(tagged.configure(model, folder, tmp_path / "run", train={"epochs": 1}))
    texts = ["the river runs over the old stone .", "a storm over the lake , the sun"] * 10
    in_file = [soiled(text, i) for i, text in enumerate(texts)]
    assert [Cleaner(UNDO)(text).text for text in in_file] == texts
    found = {}
    for name, given in (("clean", texts), ("dirty", in_file)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps({'text': text})}\n" for text in given))
        argv = ["--input", str(tmp_path / f"{name}.jsonl"), "--output", str(tmp_path / "o.jsonl"), *OPTIONS]
        predict.main([str(tmp_path / "run"), *argv, "--data.split_words=punctuation", "--data.text=text"])
        found[name] = read_jsonl(tmp_path / "o.jsonl")
    assert any(row["entities"] for row in found["dirty"])
    for clean, own, text, raw in zip(found["clean"], found["dirty"], texts, in_file, strict=True):
        assert own["text"] == raw
        assert [Cleaner(UNDO)(word).text for word in own["words"]] == text.split()
        assert [Cleaner(UNDO)(x["text"]).text for x in own["entities"]] == [x["text"] for x in clean["entities"]]
        assert own["tags"] == clean["tags"]
        assert all(word in own["text"] for word in own["words"])
        assert len(own["words"]) == len(text.split())
        for entity in own.get("entities", []):
            assert own["text"][entity["start"] : entity["end"]] == entity["text"]
    shutil.rmtree(tmp_path / "run")
