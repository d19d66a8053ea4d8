"""Domains and weights of examples on bad input: one line, and no run directory."""

import json

import pytest

from tests.support import several, tiny


def write(path, columns, rows):
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path):
    """A function of names of files without labels and with domains and weights to their paths."""
    texts = [("the old river",), ("a bright sun",), ("stone bridge",)] * 4
    labels = [tiny.LABELS[i % 3] for i in range(12)]
    write(tmp_path / "texts.csv", ["text"], texts)
    write(tmp_path / "empty.csv", ["text"], [])
    write(tmp_path / "other.csv", ["sentence"], texts)
    write(tmp_path / "plain.csv", ["text", "label"], [(*x, y) for x, y in zip(texts, labels, strict=True)])
    named = [(*x, y, "film", w) for x, y, w in zip(texts, labels, [1, 0, 0.5] * 4, strict=True)]
    columns = ["text", "label", "shelf", "share"]
    write(tmp_path / "one.csv", columns, named)
    write(tmp_path / "two.csv", columns, [*named[:-1], (*named[0][:2], "book", 1)])
    for name, bad in {"negative": -1, "nan": "nan", "word": "much", "none": ""}.items():
        write(tmp_path / f"{name}.csv", columns, [*named[:4], (*named[4][:3], bad)])
    write(tmp_path / "zeros.csv", columns, [(*row[:3], 0) for row in named])
    rows = [{"text": "stone bridge", "label": y, "shelf": x} for x, y in zip([["a"], ["a", "b"]], tiny.LABELS, strict=False)]
    (tmp_path / "lists.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return lambda name: str(tmp_path / (f"{name}.jsonl" if name == "lists" else f"{name}.csv"))


CASES = {
    "one domain": (
        {"train": "one", "domains.column": "shelf"},
        ["one.csv", 'column "shelf" has one domain, film', "two or more"],
    ),
    "an empty name": ({"train": "plain", "domains.column": ""}, ['plain.csv: no column ""']),
    "no column": ({"train": "plain", "domains.column": "shelf"}, ['plain.csv: no column "shelf"']),
    "a column in one file only": (
        {"train": ["two", "plain"], "domains.column": "shelf"},
        ["plain.csv: row 1", 'no value in column "shelf" (domains.column)'],
    ),
    "texts without the column": (
        {"train": "two", "domains.column": "shelf", "domains.texts": "texts"},
        ['texts.csv: no column "shelf"'],
    ),
    "one file": ({"train": "plain", "domains.files": "true"}, ["plain.csv", "there is one domain"]),
    "two kinds of names": (
        {"train": "two", "domains.files": "true", "domains.column": "shelf"},
        ["domains.files and domains.column exclude each other"],
    ),
    "two names in a row": ({"train": "lists", "domains.column": "shelf"}, ["lists.jsonl: row 1", "['a']", "one name"]),
    "a file twice": ({"domains.texts": ["texts", "texts"]}, ["domains.texts names", "texts.csv twice"]),
    "the training data": ({"train": "plain", "domains.texts": "plain"}, ["domains.texts names", "as data.train does"]),
    "empty texts": ({"domains.texts": "empty"}, ["empty.csv", "no rows"]),
    "absent texts": ({"domains.texts": "absent"}, ["absent.csv: no such file (domains.texts)"]),
    "texts without the text": ({"domains.texts": "other"}, ['other.csv: no column "text"', "sentence"]),
    "few texts": (
        {"domains.texts": "texts", "domains.per_step": 13},
        ["domains.per_step is 13", "domains.texts has 12"],
    ),
    "few texts by default": ({"domains.texts": "texts"}, ["domains.per_step is null, as many as train.batch_size 32"]),
    "a negative factor": ({"domains.texts": "texts", "domains.weight": -1}, ["domains.weight is -1", "0 or more"]),
    "an option alone": ({"domains.gamma": 5}, ["domains.gamma is 5", "give domains.texts, column or files"]),
    "texts in a step alone": (
        {"domains.column": "x", "domains.per_step": 5},
        ["domains.per_step is 5", "domains.texts is null"],
    ),
    "mixup": ({"domains.texts": "texts", "augment.mixup": 0.2}, ["domains and augment.mixup exclude each other"]),
    "nothing to adapt": (
        {"domains.texts": "texts", "domains.per_step": 4, "plan.preset": "head"},
        ["the plan trains nothing of the encoder"],
    ),
    "a teacher for each example": (
        {"train": "two", "domains.texts": "texts", "domains.per_step": 4, "data.teacher": "shelf", "distill.teacher": "T"},
        ["data.teacher and domains.texts exclude each other"],
    ),
    "a negative weight": ({"train": "negative", "data.weight": "share"}, ["negative.csv: row 5", "'-1'", "0 or more"]),
    "no number": ({"train": "nan", "data.weight": "share"}, ["nan.csv: row 5", "'nan'", "finite number"]),
    "a word": ({"train": "word", "data.weight": "share"}, ["word.csv: row 5", "'much'", 'column "share"']),
    "no weight": (
        {"train": "none", "data.weight": "share"},
        ["none.csv: row 5", 'no value in column "share" (data.weight)'],
    ),
    "all weights zero": ({"train": "zeros", "data.weight": "share"}, ["zeros.csv", "every weight", "is 0"]),
    "weights and pairs": (
        {"train": "two", "data.weight": "share", "augment.mixup": 0.3},
        ["data.weight and augment.mixup exclude each other"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_in_one_line(train_fails, files, classifier, case):
    changes, words = CASES[case]
    options: dict = {"data.validation": None}
    for name, value in changes.items():
        if name == "train":
            options["data.train"] = files(value) if isinstance(value, str) else json.dumps([files(x) for x in value])
        else:
            texts = name == "domains.texts"
            paths = json.dumps([files(x) for x in value]) if texts and isinstance(value, list) else None
            options[name] = paths or (files(value) if texts else classifier if value == "T" else value)
    train_fails(options, *words)


def test_rows_that_are_joined_have_no_weights(train_fails, files):
    task = {"task.name": "fill-mask", "data.train": files("two"), "data.validation": None}
    train_fails(task | {"data.weight": "share"}, "data.weight", "made of several rows", "data.documents to lines")


def test_several_tasks_have_no_domains(train_fails, files, tmp_path):
    several.write_files(tmp_path)
    tasks = json.dumps(several.elements(tmp_path, ["moods", "tags"]))
    options = {"tasks": tasks, "data.train": None, "data.validation": None, "domains.texts": files("texts")}
    train_fails(options, "domains is for a run of one task")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["required", "--target"]),
        (["--target=absent.csv", "--output=o.jsonl"], ["absent.csv: no such file (--target)"]),
        (["--target=T", "--output=o.csv"], ["--output o.csv", ".jsonl"]),
        (["--target=T", "--output=o.jsonl", "--clip=0.5"], ["--clip is 0.5", "1 or more"]),
        (["--target=T", "--output=o.jsonl", "--features=x"], ["--features", "words"]),
        (["--target=T", "--output=o.jsonl", "--column=label"], ["--column label", 'has a column "label"']),
        (["--target=T", "--output=o.jsonl", "--data.train=null"], ["data.train is not set"]),
        (["--target=T", "--output=o.jsonl", "--data.max_train_examples=3"], ["3 source and 12 target texts", "at least 5"]),
        (["--target=T", "--output=o.jsonl", "--features=mean", "--model.path=null"], ["--features mean", "model.path"]),
    ],
)
def test_weigh_refuses_bad_arguments(fails, files, tiny_model, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    config = {"model": {"path": str(tiny_model)}, "data": {"train": files("plain")}}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    fails("weigh", ["c.yaml", *(x.replace("=T", f"={files('texts')}") for x in argv)], *words)
    assert not [*tmp_path.glob("o.*")]
