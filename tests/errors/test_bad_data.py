"""Bad training data: one line that says what is wrong, where, and what would be right; nothing is written."""

import pytest

DATA = {
    "empty file": ("a.csv", b"", ["a.csv", "empty", "data.train"]),
    "header only": ("a.csv", b"text,label\n", ["a.csv", "no rows"]),
    "missing column": ("a.csv", b"texts,label\nx,calm\n", ["a.csv", 'no column "text"', 'did you mean "texts"']),
    "column twice": ("a.csv", b"text,label,text\nx,calm,y\n", ["a.csv", "occurs twice"]),
    "no label": ("a.csv", b"text,label\nx,calm\ny,\n", ["a.csv", "row 2", "no label", '"label"']),
    "label null": ("a.jsonl", b'{"text": "x", "label": null}\n', ["a.jsonl", "row 1", "no label"]),
    "label NaN": ("a.json", b'[{"text": "x", "label": 1.5}, {"text": "x", "label": NaN}]', ["a.json"]),
    "one label": ("a.csv", b"text,label\nx,calm\ny,calm\n", ["a.csv", "only the label", '"calm"']),
    "empty text": ("a.csv", b"text,label\nx,calm\n,calm\n", ["a.csv", "row 2", "empty text", "data.empty_texts"]),
    "blank text": ("a.csv", b"text,label\nx,calm\n  \t,calm\n", ["a.csv", "row 2", "empty text"]),
    "null text": ("a.jsonl", b'{"text": "x", "label": "a"}\n{"text": null, "label": "b"}\n', ["row 2", "empty text"]),
    "text is a number": ("a.jsonl", b'{"text": 5, "label": "a"}\n', ["a.jsonl", "row 1", "5", "must be text"]),
    "latin-1 csv": ("a.csv", b"text,label\nx,calm\ncaf\xe9,calm\n", ["a.csv", "line 3", "not UTF-8", "0xe9"]),
    "latin-1 header": ("a.csv", b"t\xe9xt,label\nx,calm\n", ["a.csv", "line 1", "not UTF-8"]),
    "latin-1 tsv": ("a.tsv", b"text\tlabel\ncaf\xe9\tcalm\n", ["a.tsv", "line 2", "not UTF-8"]),
    "latin-1 jsonl": ("a.jsonl", b'{"text": "x", "label": "a"}\n{"text": "caf\xe9", "label": "a"}\n', ["line 2", "UTF-8"]),
    "latin-1 txt": ("a.txt", b"x\ncaf\xe9\n", ["a.txt", "line 2", "not UTF-8"]),
    "cut inside a character": ("a.txt", b"x\ncaf\xc3", ["a.txt", "line 2", "not UTF-8"]),
    "utf-16": ("a.csv", "text,label\nx,calm\n".encode("utf-16"), ["a.csv", "line 1", "not UTF-8"]),
    "txt has no labels": ("a.txt", b"x\ny\n", ["a.txt", 'no column "label"']),
    "too many fields": ("a.csv", b"text,label\nx,calm\na,b,c,calm\n", ["a.csv", "line 3"]),
    "too many fields everywhere": (
        "a.csv",
        b"text,label\na,b,calm\nc,d,merry\n",
        ["a.csv", "row 1 (line 2) has 3 fields", "2 columns"],
    ),
    "semicolons": ("a.csv", b"text;label\nx;calm\n", ['separated by ";"', "pandas.read_csv(FILE, sep=';')"]),
    "semicolons and a comma": ("a.csv", b"text;label\nx, y;calm\n", ["has 2 fields", 'separated by ";"']),
    "tabs in a csv": ("a.csv", b"text\tlabel\nx\tcalm\n", ["separated by tabs", "rename it to .tsv"]),
    "semicolons in a text": (
        "a.csv",
        b"a;b,label\nx;y,calm\n",
        ['no column "text" (columns: a;b, label); data.text names it'],
    ),
    "too few fields": ("a.csv", b"text,label\nx,calm\ny\n", ["a.csv", "row 2", "no label"]),
    "long later": ("a.tsv", b"text\tlabel\nx\tcalm\na\tb\tcalm\n", ["a.tsv", "line 3"]),
    "open quote": ("a.csv", b'text,label\n"x,calm\ny,calm\n', ["a.csv", "cannot be read"]),
    "torn json": ("a.json", b'[{"text": "x", "label": "a"}, {"te', ["a.json", "cannot be read"]),
    "torn jsonl": ("a.jsonl", b'{"text": "x", "label": "a"}\n{"text": "y", \n', ["a.jsonl", "cannot be read"]),
    "not parquet": ("a.parquet", b"PAR1 nothing of the sort", ["a.parquet", "cannot be read"]),
    "unknown kind": ("a.xlsx", b"PK", ["a.xlsx", "unknown kind of file", ".csv"]),
    "no kind": ("a", b"text,label\n", ["unknown kind of file"]),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_training_file(train_fails, tmp_path, case):
    name, content, words = DATA[case]
    (tmp_path / name).write_bytes(content)
    train_fails({"data.train": tmp_path / name}, *words)


def test_a_limit_of_a_file_that_is_sorted_by_label(train_fails, tmp_path):
    rows = "".join(f"{word},{label}\n" for label in ("calm", "merry", "sad") for word in "abc")
    (tmp_path / "a.csv").write_text(f"text,label\n{rows}")
    limited = {"data.train": tmp_path / "a.csv", "data.max_train_examples": 3}
    train_fails(limited, 'only the label "calm"', "max_train_examples takes the first 3 rows", "sorted by label")
    several = {"task.problem": "multi_label", "data.label_separator": ";", "task.threshold": 0.5}
    train_fails(limited | several, "has 1 label; multi-label needs two", "max_train_examples takes the first 3 rows")
    (tmp_path / "a.conll").write_text("a O\n\nb O\n\nc B-x\n")
    tagged = {
        "task.name": "token-classification",
        "data.train": tmp_path / "a.conll",
        "data.validation": tmp_path / "a.conll",
    }
    train_fails(
        limited | tagged | {"data.max_train_examples": 2}, 'only tag is "O"', "max_train_examples takes the first 2 rows"
    )


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_missing_file(train_fails, tmp_path, split):
    train_fails({f"data.{split}": tmp_path / "absent.csv"}, "absent.csv", "no such file", f"data.{split}")


def test_directory_as_file(train_fails, tmp_path):
    train_fails({"data.train": tmp_path}, "is a directory", "data.train")


def test_missing_pair_column(train_fails):
    train_fails({"data.text_pair": "second"}, "train.csv", 'no column "second"')


@pytest.mark.parametrize(
    ("training", "validation", "words"),
    [
        (["angry", "calm"], ["calm", "mery"], ["dev.csv", "row 2", '"mery"', "angry, calm"]),
        (["0", "1"], ["0", "calm"], ["dev.csv", "row 2", '"calm"', "known labels are numbers"]),
        (["0", "1"], ["0", "2"], ["dev.csv", "row 2", '"2"', "0, 1"]),
    ],
)
def test_label_that_training_lacks(train_fails, tmp_path, training, validation, words):
    for name, labels in (("train", training), ("dev", validation)):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"river,{x}\n" for x in labels))
    train_fails({"data.train": tmp_path / "train.csv", "data.validation": tmp_path / "dev.csv"}, *words)


def test_every_text_empty(train_fails, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n ,calm\n")
    train_fails({"data.train": tmp_path / "a.csv", "data.empty_texts": "drop"}, "a.csv", "every text is empty")


def test_text_too_long_without_truncation(train_fails, tmp_path):
    (tmp_path / "a.csv").write_text(f"text,label\nriver,calm\n{'river ' * 40},merry\n")
    changes = {"data.train": tmp_path / "a.csv", "data.truncation": "false"}
    train_fails(changes, "a.csv", "row 2 is 42 tokens", "data.max_length 32", "data.truncation")


def test_validation_share_that_leaves_nothing(train_fails):
    train_fails({"data.validation": None, "data.validation_share": 0.001}, "data.validation_share", "empty")


def test_missing_split_of_a_saved_data_set(train_fails, tmp_path):
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "label": ["a", "b"]})
    datasets.DatasetDict(train=rows).save_to_disk(tmp_path / "saved")
    changes = {"data.dataset": tmp_path / "saved", "data.train": "train", "data.validation": "dev"}
    train_fails(changes, "saved", "no split dev", "train")


def test_torn_saved_data_set(train_fails, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    train_fails({"data.dataset": tmp_path / "saved", "data.train": "train"}, "saved", "cannot be read")


def test_a_data_set_of_the_hub_without_a_connection(train_fails, monkeypatch):
    import datasets

    asked = []

    def refuse(*_, **options):  # as `datasets` does after it has tried for 25 seconds
        asked.append(options)
        raise ConnectionError("Couldn't reach 'nyu-mll/glue' on the Hub (LocalEntryNotFoundError)")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    options = {"data.dataset": "nyu-mll/glue", "data.dataset_config": "sst2", "data.train": "train"}
    train_fails(options, "nyu-mll/glue:train: is not in the cache", "HF_HOME", "--data.dataset null --data.train FILE")
    assert len(asked) == 1


FINE = "sun\tO\nstone\tB-x\n"
TAGGED = {
    "outside the scheme": ({"a.conll": f"{FINE}river\tplace\n"}, {}, ["a.conll: line 3", '"place" ("river")', "B-, I-"]),
    "new in validation": (
        {"b.conll": f"{FINE}\nsun\tI-x\nriver\tB-y\n"},
        {},
        ["b.conll: line 5", '"B-y"', "3 known labels"],
    ),
    "counts differ": (
        {"b.jsonl": '{"text": ["sun", "."], "label": ["O"]}\n'},
        {},
        ["b.jsonl: row 1 has 2 words but 1 tags"],
    ),
    "empty document": ({"a.conll": f"-DOCSTART- O\n\n-DOCSTART- O\n{FINE}"}, {}, ["a.conll: line 1", "without words"]),
    "stride": ({}, {"data.stride": 30}, ["data.stride is 30: must be below 30"]),
    "negative stride": ({}, {"data.stride": -1}, ["data.stride is -1"]),
    "negative weight": ({}, {"task.class_weights": "[1, -1, 1]"}, ["task.class_weights is [1.0, -1.0, 1.0]"]),
    "too few weights": ({}, {"task.class_weights": "[1, 2]"}, ["task.class_weights has 2 numbers", "3 labels"]),
    "metric": ({}, {"eval.metric": "macro_f1"}, ["eval.metric is macro_f1", "the tags mark entities", "f1"]),
    "another task's option": ({}, {"task.focal_gamma": 2}, ["token-classification has no such option", "tag_scheme"]),
    "unknown scheme": ({}, {"task.tag_scheme": "iob3"}, ["task.tag_scheme is iob3", "bioes"]),
}


@pytest.mark.parametrize("case", TAGGED)
def test_bad_tags_and_tagging_options(train_fails, tmp_path, case):
    files, options, words = TAGGED[case]
    names = dict(zip("ab", ("train", "validation"), strict=True))
    given = {"task.name": "token-classification"}
    for name, content in {"a.conll": FINE, "b.conll": FINE, **files}.items():
        (tmp_path / name).write_text(content)
        given[f"data.{names[name[0]]}"] = tmp_path / name
    train_fails(given | options, *words)
