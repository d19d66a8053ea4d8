"""Finding and reading files: names, patterns, compression, forms of JSON, unused columns."""

import bz2
import gzip
import json
from dataclasses import replace

import datasets
import pyarrow as pa
import pytest

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.reading import spool
from jaxft.data.reading.sources import column_names, read_rows

TABLE = "text,label\nriver,calm\nstorm,angry\n"
ROWS = {"text": ["river", "storm"], "label": ["calm", "angry"]}
MARK = "\ufeff"


def read(given, *needed, **options):
    where = [str(x) for x in given] if isinstance(given, list) else str(given)
    return read_rows(DataConfig(train=where, **options), "train", needed=needed or ("text", "label")).to_dict()


@pytest.mark.parametrize("name", ["a[1].csv", "a*.csv", "[a].csv", "who?.csv"])
def test_the_name_of_a_file_is_not_taken_for_a_pattern(tmp_path, name):
    (tmp_path / name).write_text(TABLE)
    (tmp_path / "a1.csv").write_text("text,label\nother,other\n")
    assert read(tmp_path / name) == ROWS


def test_patterns_and_lists_are_read_in_order(tmp_path):
    for name, text in {"b.csv": "b", "a.csv": "a", ".hidden.csv": "h"}.items():
        (tmp_path / name).write_text(f"text,label\n{text},x\n")
    (tmp_path / "c.jsonl").write_text('{"label": "x", "text": "c", "more": 1}\n')
    assert read(tmp_path / "*.csv")["text"] == ["a", "b"]
    assert read([tmp_path / "c.jsonl", tmp_path / "*.csv"])["text"] == ["c", "a", "b"]
    with pytest.raises(UserError, match=r"\*\.tsv: no such file, and no file matches this pattern \(data\.train\)"):
        read(tmp_path / "*.tsv")
    with pytest.raises(UserError, match=r"data\.train is an empty list"):
        read([])


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b.csv"])
def test_names_that_no_file_can_have_are_refused(name):
    with pytest.raises(UserError, match="no such file"):
        read(name)


def _zstd(content):
    return pa.compress(content, "zstd", asbytes=True)


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("zst", _zstd)])
def test_compressed_files_are_read(tmp_path, ending, compress):
    for name, text in {"a.csv": TABLE, "a.tsv": TABLE.replace(",", "\t"), "a.json": json.dumps(ROWS)}.items():
        (tmp_path / f"{name}.{ending}").write_bytes(compress(text.encode()))
        assert read(tmp_path / f"{name}.{ending}") == ROWS
    (tmp_path / f"a.txt.{ending}").write_bytes(compress(f"{MARK}one\ntwo\n".encode()))
    assert read(tmp_path / f"a.txt.{ending}", "text") == {"text": ["one", "two"]}
    (tmp_path / f"a.csv.{ending}").write_bytes(compress(TABLE.encode() * 99)[:-9])
    with pytest.raises(UserError, match=rf"a\.csv\.{ending}: cannot be read"):
        read(tmp_path / f"a.csv.{ending}")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", TABLE),
        ("b.csv", TABLE.replace("text", '"text"')),
        ("a.tsv", TABLE.replace(",", "\t")),
        ("a.json", json.dumps(ROWS)),
        ("a.jsonl", '{"text": "river", "label": "calm"}\n{"text": "storm", "label": "angry"}\n'),
    ],
)
def test_a_byte_order_mark_is_ignored(tmp_path, name, text):
    (tmp_path / name).write_text(MARK + text, encoding="utf-8")
    assert read(tmp_path / name) == ROWS


def test_a_byte_order_mark_is_ignored_without_a_header(tmp_path):
    (tmp_path / "a.csv").write_text(f"{MARK}river,calm\n", encoding="utf-8")
    assert read(tmp_path / "a.csv", columns=["text", "label"]) == {"text": ["river"], "label": ["calm"]}


LIST = [{"text": "river", "label": "calm"}, {"text": "storm", "label": "angry"}]
JSON = {
    "rows": LIST,
    "data": {"data": LIST, "version": 2},
    "columns": ROWS,
    "columns of pandas": {name: dict(enumerate(values)) for name, values in ROWS.items()},
    "split of pandas": {"columns": ["text", "label"], "index": [0, 1], "data": [["river", "calm"], ["storm", "angry"]]},
    "table of pandas": {"schema": {"fields": []}, "data": [{"index": 0} | row for row in LIST]},
}


@pytest.mark.parametrize("form", JSON)
@pytest.mark.parametrize("indent", [None, 2])
def test_every_form_of_json_gives_the_same_rows(tmp_path, form, indent):
    (tmp_path / "a.json").write_text(json.dumps(JSON[form], indent=indent))
    assert read(tmp_path / "a.json") == ROWS


def test_one_json_row_and_rows_of_lists_are_not_taken_for_columns(tmp_path):
    (tmp_path / "a.json").write_text('{"text": "river", "label": "calm"}')
    assert read(tmp_path / "a.json") == {"text": ["river"], "label": ["calm"]}
    (tmp_path / "b.jsonl").write_text('{"text": ["a", "b"], "label": ["O", "O"]}\n')
    assert read(tmp_path / "b.jsonl") == {"text": [["a", "b"]], "label": [["O", "O"]]}
    (tmp_path / "c.json").write_text('{"text": ["a", "b"], "label": ["O"]}\n')
    with pytest.raises(UserError, match=r"c\.json: the columns differ in their numbers of rows"):
        read(tmp_path / "c.json")


@pytest.mark.parametrize("late", ['"note": "seen"', '"note": 1.5', '"note": [1, {}]', '"other": {"a": 1}'])
def test_unused_json_keys_do_not_matter(tmp_path, late):
    first = [{"text": "river", "label": "calm", "note": x} for x in (None, 1, {})]
    last = f'{{"text": "storm", "label": "angry", {late}}}'
    (tmp_path / "a.jsonl").write_text("\n".join([*map(json.dumps, first), last]))
    assert read(tmp_path / "a.jsonl")["text"] == ["river"] * 3 + ["storm"]


def test_numbers_among_texts_are_text(tmp_path, monkeypatch):
    """Wherever they are in a file and in which file, in memory and on disk."""
    rows = [{"text": "a", "label": x} for x in (1, "1", 1.5, True, None)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(tmp_path / "a.jsonl")["label"] == ["1", "1", "1.5", "true", None]
    (tmp_path / "b.jsonl").write_text('{"text": "a", "label": 7}\n')
    for memory in (spool.IN_MEMORY, 0):
        monkeypatch.setattr(spool, "IN_MEMORY", memory)
        assert read([tmp_path / "b.jsonl", tmp_path / "a.jsonl"])["label"] == ["7", "1", "1", "1.5", "true", None]


@pytest.mark.parametrize("memory", [spool.IN_MEMORY, 0])
@pytest.mark.parametrize(
    ("kind", "number", "text"), [(str, 5, "river"), (str, 1.5, "river"), (list, ["a", 5], ["b"]), (list, [5], ["b"])]
)
def test_a_number_in_a_column_of_texts_is_refused_wherever_it_is(tmp_path, monkeypatch, kind, number, text, memory):
    """Or null in prediction; in a file with texts and in another one."""
    monkeypatch.setattr(spool, "IN_MEMORY", memory)
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.jsonl"]
    for file, values in zip(files, [[number, text], [text, number], [number]], strict=True):
        file.write_text("".join(json.dumps({"text": x}) + "\n" for x in values))
    for given in (files[:2], files, files[::-1]):
        config = DataConfig(train=list(map(str, given)), empty_texts="null")
        found = read_rows(config, "train", needed=["text"], kinds={"text": kind})["text"][:]
        assert [x for x in found if x is not None] == [text, text]
        assert len(found) == len(given) + 2
        with pytest.raises(UserError, match=r"row [12] has .*5.* in column \"text\": must be (text|a list)"):
            read_rows(replace(config, empty_texts="error"), "train", needed=["text"], kinds={"text": kind})


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ('{"text": ["b"]}', "row 2 has \\['b'\\] in column \"text\": must be text"),
        ('{"text": "\\ud800"}', "row 2 has .* must be text without lone surrogates"),
        ("[1]", r"row 2 is \[1\]: must be an object"),
        ('{"text": ' + "1" * 5000 + "}", r"line 2: not valid JSON \(Exceeds"),
        ("[" * 100_000, r"line 2: not valid JSON \(brackets are nested"),
    ],
)
def test_bad_json_rows_are_named(tmp_path, bad, words):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a"}}\n{bad}\n')
    with pytest.raises(UserError, match=words):
        read(tmp_path / "a.jsonl", "text")


@pytest.mark.parametrize("head", [",text,label", ",,text,label", "n,n,text,label"])
def test_unused_columns_of_a_table_do_not_matter(tmp_path, head):
    """Such as the index that pandas writes without a name, and names that occur twice."""
    before = "0," * (head.count(",") - 1)
    (tmp_path / "a.csv").write_text(f"{head}\n{before}river,calm\n{before}storm,angry\n")
    assert read(tmp_path / "a.csv") == ROWS
    assert column_names(DataConfig(train=str(tmp_path / "a.csv")), "train")[-2:] == ["text", "label"]


@pytest.mark.parametrize("head", ["", "text,label\n", '"text","label"\n'])
def test_a_header_that_repeats_data_columns_is_no_row(tmp_path, head):
    (tmp_path / "a.csv").write_text(f"{head}river,calm\ntext,label\n")
    assert read(tmp_path / "a.csv", columns=["text", "label"]) == {"text": ["river", "text"], "label": ["calm", "label"]}


def test_separators_at_line_ends_are_ignored_and_lines_of_spaces_are_text(tmp_path):
    (tmp_path / "a.tsv").write_text("text\tlabel\nriver\tcalm\t\nstorm\tangry\t\n")
    assert read(tmp_path / "a.tsv") == ROWS
    (tmp_path / "b.csv").write_text('text\nriver\n  \n\n""\nstorm\n')
    assert read(tmp_path / "b.csv", "text") == {"text": ["river", "  ", "", "storm"]}


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_first_row_larger_than_any_block_is_read(tmp_path, name):
    long = "river " * 3_000_000
    rows = [{"text": long, "label": "calm"}, {"text": "storm", "label": "angry"}]
    lines = ["text,label", *(f"{row['text']},{row['label']}" for row in rows)] if name == "a.csv" else map(json.dumps, rows)
    (tmp_path / name).write_text("\n".join(lines))
    assert read(tmp_path / name) == {"text": [long, "storm"], "label": ["calm", "angry"]}


def test_saved_data_sets_are_read_with_and_without_splits(tmp_path):
    rows = datasets.Dataset.from_dict(ROWS)
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(dev=rows).save_to_disk(tmp_path / "several")
    assert (
        read("train", dataset=str(tmp_path / "one")) == read(tmp_path / "one") == read(tmp_path / "several" / "dev") == ROWS
    )
    with pytest.raises(UserError, match="no split dev: it is a saved data set without splits, which is called train"):
        read("dev", dataset=str(tmp_path / "one"))
    with pytest.raises(UserError, match=r"give it as data\.dataset, and data\.train the name of a split"):
        read(tmp_path / "several")


def test_files_that_declare_different_labels_are_not_joined(tmp_path):
    for name, labels in {"a": ["no", "yes"], "b": ["yes", "no"]}.items():
        kind = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=labels))
        datasets.Dataset.from_dict({"text": ["x"], "label": [1]}, features=kind).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(UserError, match='the files declare different labels for the column "label"'):
        read(tmp_path / "*.parquet")
    (tmp_path / "b.parquet").unlink()
    rows = read_rows(DataConfig(train=str(tmp_path / "*.parquet")), "train", needed=["label"])
    assert rows.features["label"].names == ["no", "yes"]


@pytest.mark.parametrize("text", ["a song", 7], ids=["alike", "numbers among texts"])
@pytest.mark.parametrize(
    "values", [["yes", "no"], ["1", "0.0"], [1, 0], [1.0, 0.0]], ids=["names", "ids as text", "ids", "floats"]
)
@pytest.mark.parametrize("first", [True, False], ids=["declared first", "declared last"])
def test_labels_declared_by_one_file_apply_to_the_others(tmp_path, text, values, first):
    kind = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["yes", "no"]))
    declared, other = tmp_path / "a.parquet", tmp_path / "b.jsonl"
    datasets.Dataset.from_dict({"text": ["x", "y"], "label": [1, 0]}, features=kind).to_parquet(declared)
    wanted = [0, 1] if isinstance(values[0], str) and values[0] == "yes" else [1, 0]
    other.write_text("".join(json.dumps({"text": text, "label": x}) + "\n" for x in values))
    given = [str(x) for x in ([declared, other] if first else [other, declared])]
    rows = read_rows(DataConfig(train=given), "train", needed=["text", "label"])
    assert rows.features["label"].names == ["yes", "no"]
    assert rows["label"][:] == ([1, 0, *wanted] if first else [*wanted, 1, 0])
    other.write_text('{"text": "x", "label": "maybe"}\n')
    with pytest.raises(UserError, match=r'row \d has the label "maybe" in column "label", which is none of the 2'):
        read_rows(DataConfig(train=given), "train", needed=["text", "label"])


def test_hidden_folders_and_files_are_ignored(tmp_path):
    for name in ("calm/a.txt", ".ipynb_checkpoints/a.txt", "calm/.b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("river")
    assert read(tmp_path) == {"text": ["river"], "label": ["calm"]}


def test_the_fingerprint_of_a_file_depends_on_its_content(tmp_path):
    """Not on its name or time; the cache of token ids uses it."""

    def digest(text: str) -> str:
        (tmp_path / "a.csv").write_text(f"text\n{text}\n")
        return read_rows(DataConfig(train=str(tmp_path / "a.csv")), "train", needed=["text"])._fingerprint

    assert digest("river") == digest("river") != digest("storm")
