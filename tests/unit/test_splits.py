"""Rows that are held out for validation, and what a run records about its data."""

import dataclasses
import json
import re

import datasets
import numpy as np
import pytest

from jaxft.config import Config, DataConfig, cli
from jaxft.core.errors import UserError
from jaxft.data.reading.row_numbers import row_names, row_numbers, select_rows
from jaxft.run import input_files, record, rundir
from jaxft.run.first_rows import missing_labels
from jaxft.run.splits import held_out, validation_rows
from jaxft.tasks.labels import label_ids, label_values
from jaxft.tasks.regression import Regression
from jaxft.tasks.text_classification import TextClassification

LABELS = ["a"] * 60 + ["b"] * 37 + ["c"] * 2 + ["d"]
TASK = TextClassification(("a", "b", "c", "d"))


def rows_of(labels) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(len(labels))], "label": labels})


def config_of(**data) -> Config:
    return Config(data=DataConfig(validation_share=0.2, **data))


def test_a_split_has_its_own_seed():
    rows = rows_of(LABELS)
    held = held_out(TASK, rows, config_of(), "x").tolist()
    assert len(set(held)) == 20
    assert held == held_out(TASK, rows, dataclasses.replace(config_of(), seed=7), "x").tolist()
    assert held != held_out(TASK, rows, config_of(split_seed=1), "x").tolist()


def test_a_stratified_split_has_every_label_in_its_share():
    for seed in range(5):
        held = held_out(TASK, rows_of(LABELS), config_of(stratify=True, split_seed=seed), "x")
        found = {label: sum(LABELS[i] == label for i in held) for label in "abcd"}
        assert found == {"a": 12, "b": 8 if found["c"] == 0 else 7, "c": found["c"], "d": 0}
        assert held.tolist() == sorted(set(held.tolist()))
    with pytest.raises(UserError, match="every label has too few rows"):
        held_out(TASK, rows_of(list("abcd")), config_of(stratify=True), "x")
    with pytest.raises(UserError, match=r"data\.stratify: rows of text-classification have no single label"):
        held_out(Regression(("score",)), rows_of(LABELS), config_of(stratify=True), "x")


def test_rows_keep_their_numbers():
    rows = rows_of(LABELS)
    assert row_numbers(rows).tolist() == list(range(1, 101))
    assert row_numbers(rows.select([3, 5, 9]).select([0, 2])).tolist() == [4, 10]
    following = select_rows(rows, [5, 6, 7])  # `select` would make a slice, which loses its start
    assert row_numbers(following).tolist() == [6, 7, 8]
    assert row_numbers(select_rows(following, [2])).tolist() == [8]
    assert following["label"][:] == LABELS[5:8]
    assert row_names(following, "a.csv")(1) == "a.csv: row 7"


def test_labels_that_a_limit_leaves_out_are_named():
    rows, config = rows_of(LABELS), config_of()
    line = missing_labels(TextClassification, rows, rows.select(range(60)), config, "a.csv")
    assert line.startswith("a.csv: the first 60 rows, which data.max_train_examples takes, lack 3 of 4 labels (b, c, d): ")
    assert not missing_labels(TextClassification, rows, rows, config, "a.csv")
    mixed = rows_of([*"dcba", *LABELS])
    assert not missing_labels(TextClassification, mixed, mixed.select(range(4)), config, "a.csv")
    numbers = rows_of([1.0] * 5 + [2.0])
    assert not missing_labels(Regression, numbers, numbers.select(range(5)), config, "a.csv")
    assert not missing_labels(TextClassification, rows_of(["a", "b", ""]), rows_of(["a", "b"]), config, "a.csv")


def test_a_single_held_out_row_keeps_its_number(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(8)))
    numbers = set()
    for seed in range(4):
        config = Config(data=DataConfig(train=str(path), validation_share=0.1, split_seed=seed))
        held = validation_rows(tmp_path, TASK, config)
        number = int(held["text"][0].split()[1]) + 1
        assert row_numbers(held).tolist() == [number]
        numbers.add(number)
    assert len(numbers) > 1


@pytest.mark.parametrize("kinds", [("csv", "csv"), ("csv", "jsonl")])
def test_messages_name_the_file_of_a_row_and_its_number_in_it(tmp_path, kinds):
    """Also after earlier rows were left out."""
    rows = [[("one", "a"), ("two", "b")], [(" ", "a"), ("three", "b"), ("four", "c"), ("five", "a")]]
    files = []
    for number, (kind, pairs) in enumerate(zip(kinds, rows, strict=True)):
        lines = [json.dumps({"text": t, "label": y}) if kind == "jsonl" else f"{t},{y}" for t, y in pairs]
        files.append(tmp_path / f"{number}.{kind}")
        files[-1].write_text("\n".join([*(["text,label"] if kind == "csv" else []), *lines, ""]))
    names = [str(file) for file in files]
    found = TASK.read(config_of(train=names, empty_texts="drop"), "train")
    where = row_names(found, "both")
    there = [f"{names[0]}: row 1", f"{names[0]}: row 2", *(f"{names[1]}: row {n}" for n in (2, 3, 4))]
    assert [where(i) for i in range(len(found))] == there
    with pytest.raises(UserError, match=rf'^{re.escape(names[1])}: row 3 has the label "c"'):
        label_ids(label_values(found, "label", "both"), ["a", "b"], where)
    with pytest.raises(UserError, match=rf"^{re.escape(names[1])}: row 1 has an empty text"):
        TASK.read(config_of(train=names), "train")


def test_recorded_validation_rows_are_read_again(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" if i != 1 else ",a\n" for i in range(20)))
    config = config_of(train=str(path), empty_texts="drop")
    (tmp_path / rundir.VALIDATION_ROWS).write_text("1\n3\n20\n")
    rows = validation_rows(tmp_path, TASK, config)
    assert rows["text"][:] == ["text 0", "text 2", "text 19"]
    path.write_text("text,label\nx,a\ny,b\nz,a\n")
    with pytest.raises(UserError, match=r"has no row 20, which .*validation_rows\.txt names"):
        validation_rows(tmp_path, TASK, config)


def test_recorded_validation_rows_belong_to_their_split(tmp_path):
    datasets.DatasetDict(train=rows_of(list("abab")), more=rows_of(list("baba"))).save_to_disk(tmp_path / "saved")
    config = config_of(dataset=str(tmp_path / "saved"), train="train")
    (tmp_path / rundir.CONFIG).write_text(cli.dump(config))
    (tmp_path / rundir.VALIDATION_ROWS).write_text("2\n4\n")
    input_files.record(tmp_path, input_files.read(config))
    assert validation_rows(tmp_path, TASK, config)["label"][:] == ["b", "b"]
    with pytest.raises(UserError, match=r"names rows of data\.train train, not of more"):
        validation_rows(tmp_path, TASK, config_of(dataset=config.data.dataset, train="more"))


@pytest.mark.parametrize("words", [None, np.array([0]), np.array([2, 5, 999, 30521])])
def test_a_record_is_read_as_it_was_written(tmp_path, words):
    written = record.Record(("b", "a"), {"problem_type": "x"}, False, 3, 9, words)
    (tmp_path / rundir.RECORD).write_text(written.text())
    record.add_thresholds(tmp_path, 6, {"threshold": 0.3})
    found = record.read(tmp_path)
    assert found is not None
    assert dataclasses.replace(found, words=None, thresholds={}) == dataclasses.replace(written, words=None)
    assert found.thresholds == {"6": {"threshold": 0.3}}
    np.testing.assert_array_equal(found.words, words)


def test_a_damaged_record_is_refused(tmp_path):
    assert record.read(tmp_path) is None
    whole = record.Record(("calm", "angry"), {}, True, 3, 9).text()
    for text in ('{"labels": ["a"', "[" * 100_000, "[]", whole.replace("calm", "cdlm"), whole.replace("9", "8")):
        (tmp_path / rundir.RECORD).write_text(text)
        with pytest.raises(UserError, match=r"run\.json: is damaged"):
            record.read(tmp_path)
