"""Several teachers that do not fit the student, their weights or their column: one line that says which and why."""

import csv
import shutil

import pytest

from tests.support import tiny


@pytest.fixture
def teachers(classifier, tmp_path) -> str:
    """Two good teachers and, in place of their directory, an option's value that names them."""
    for name in ("a", "b"):
        shutil.copytree(classifier, tmp_path / name)
    return f"[{tmp_path / 'a'}, {tmp_path / 'b'}]"


def test_the_teacher_with_other_labels_is_named(train_fails, classifier, tmp_path):
    other = tiny.write_model(tmp_path / "other", labels=["no", "yes"])
    words = [f"distill.teacher {other} has the labels no, yes (2)", "angry, calm, merry (3)"]
    train_fails({"distill.teacher": f"[{classifier}, {other}]"}, *words)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("[1, 2, 3]", ["distill.teacher_weights has 3 numbers for 2 teachers"]),
        ("[0, 0]", ["distill.teacher_weights is [0.0, 0.0]", "not all 0"]),
        ("[1, -1]", ["distill.teacher_weights is [1.0, -1.0]", "0 or more"]),
    ],
)
def test_weights_that_make_no_mean(train_fails, teachers, weights, words):
    train_fails({"distill.teacher": teachers, "distill.teacher_weights": weights}, *words)


def test_weights_without_teachers_and_no_teachers(train_fails):
    train_fails({"distill.teacher_weights": "[1]"}, "distill.teacher_weights without distill.teacher")
    train_fails({"distill.teacher": "[]"}, "distill.teacher is an empty list")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2", ["row 3", "'2'", 'column "by"', "0 to 1", "(a, b)"]),
        ("aa", ["'aa'", 'did you mean "a"']),
        ("", ["''"]),
    ],
)
def test_a_column_that_names_no_teacher(train_fails, teachers, tiny_data, tmp_path, value, words):
    with open(tiny_data / "train.csv", newline="") as file:
        rows = [[*row, "by" if not i else value if i == 3 else "1"] for i, row in enumerate(csv.reader(file))]
    with open(tmp_path / "train.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    train_fails({"distill.teacher": teachers, "data.train": tmp_path / "train.csv", "data.teacher": "by"}, *words)


def test_a_column_that_is_not_there_or_has_no_teachers(train_fails, teachers):
    train_fails({"distill.teacher": teachers, "data.teacher": "by"}, "train.csv", 'no column "by"')
    train_fails({"data.teacher": "by"}, "data.teacher names a column of teachers", "distill.teacher")
    both = {"distill.teacher": teachers, "distill.teacher_weights": "[1, 2]", "data.teacher": "by"}
    train_fails(both, "data.teacher and distill.teacher_weights exclude each other")
    changed = {"distill.teacher": teachers, "data.teacher": "label", "augment.steps": "[{step: delete, rate: 0.1}]"}
    train_fails(changed, "data.teacher and augment.steps exclude each other")


def test_outputs_in_advance_need_texts_that_stay(train_fails, classifier, tmp_path):
    teacher = shutil.copytree(classifier, tmp_path / "teacher")
    with open(teacher / "vocab.txt", "a") as file:
        file.write("word\n")
    changed = {"distill.teacher": teacher, "augment.steps": "[{step: delete, rate: 0.1}]"}
    train_fails(changed, "another vocabulary", "augment.steps changes the texts in every epoch")


def test_a_student_that_is_its_teacher(train_fails, classifier):
    """With labels it learns something, and a note is enough (test_teachers)."""
    changed = {"model.path": classifier, "distill.teacher": classifier, "distill.alpha": 1}
    train_fails(changed, "is the model that the student starts from", "with distill.alpha 1 there is", "model.layers")
    changed = {"model.path": classifier, "distill.teacher": f"[{classifier}]", "distill.unlabelled": True}
    train_fails(changed, "is the model that the student starts from", "with distill.unlabelled there is", "train on labels")


def test_a_number_that_is_another_teachers_name(train_fails, classifier, tiny_data, tmp_path):
    """In runs/1, runs/0 the value 1 may mean either of both."""
    paths = [str(shutil.copytree(classifier, tmp_path / name)) for name in ("1", "0")]
    with open(tiny_data / "train.csv", newline="") as file:
        rows = [[*row, 1 if i else "by"] for i, row in enumerate(csv.reader(file))]
    with open(tmp_path / "train.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    options = {"distill.teacher": str(paths), "data.train": tmp_path / "train.csv", "data.teacher": "by"}
    train_fails(options, "row 1", f"is the number of {paths[1]} and the name of {paths[0]}", "the whole path")
