"""From files to encoded examples: every kind of source, labels, the validation split, and the token cache."""

import datasets
import numpy as np
import pytest

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.core.paths import cache_dir
from jaxft.data.reading.sources import read_rows
from jaxft.data.tokens import encode
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.run.setup import make_run
from jaxft.tasks import labels, texts
from tests.support import tiny
from tests.support.row_names import rows_of

ROWS = [("the river runs", "calm"), ('a "bright" storm, old', "angry"), ("song\tand stone", "merry")]


def read(path, **options) -> list[tuple[str, str]]:
    config = DataConfig(train=str(path), **options)
    rows = texts.read(config, "train", [config.label])
    return list(zip(rows[config.text], labels.label_values(rows, config.label, "x"), strict=True))


# Sources


def write_csv(path, header=True, separator=","):
    lines = [["text", "label"]] * header + [[f'"{t.replace(chr(34), chr(34) * 2)}"', x] for t, x in ROWS]
    path.write_text("".join(separator.join(line) + "\n" for line in lines))


def write_json(path):
    datasets.Dataset.from_list([{"text": t, "label": x} for t, x in ROWS]).to_json(path, lines=path.suffix == ".jsonl")


def write_parquet(path):
    datasets.Dataset.from_list([{"text": t, "label": x, "other": 1} for t, x in ROWS]).to_parquet(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", write_csv),
        ("A.CSV", write_csv),
        ("a.json", write_json),
        ("a.jsonl", write_json),
        ("a.parquet", write_parquet),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name, write):
    write(tmp_path / name)
    assert read(tmp_path / name) == ROWS


def test_stray_quotes_of_a_tsv_are_text(tmp_path):
    rows = [('5" of "rain', "calm"), ('"open', "merry"), ("the end", "calm")]
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "".join(f"{t}\t{x}\n" for t, x in rows))
    assert read(tmp_path / "a.tsv") == rows


def test_quotes_of_a_tsv_may_be_standard(tmp_path):
    write_csv(tmp_path / "a.tsv", separator="\t")
    assert read(tmp_path / "a.tsv", quotes="standard") == ROWS


def test_a_file_without_a_header_is_read_by_data_columns(tmp_path):
    write_csv(tmp_path / "a.csv", header=False)
    assert read(tmp_path / "a.csv", columns=["sentence", "kind"], text="sentence", label="kind") == ROWS


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_byte_order_marks_and_windows_line_ends_are_ignored(tmp_path, name):
    separator = "," if name == "a.csv" else "\t"
    (tmp_path / name).write_bytes(f"\ufefftext{separator}label\r\nriver{separator}calm\r\n".encode())
    assert read(tmp_path / name) == [("river", "calm")]


def test_lines_of_a_text_file_have_no_labels(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    config = DataConfig(test=str(tmp_path / "a.txt"))
    assert texts.read(config, "test")["text"][:] == ["one", "two"]
    with pytest.raises(UserError, match='no column "label"'):
        texts.read(config, "test", ["label"])


def test_a_folder_of_texts_per_label_is_read(tmp_path):
    """Rows alternate between labels in proportion to their numbers; other files are not read."""
    for label, texts_of in {"pos": ["p0", "p1"], "neg": ["n0", "n1", "n2", "n3"]}.items():
        (tmp_path / label).mkdir()
        for i, text in enumerate(texts_of):
            (tmp_path / label / f"{i}.txt").write_text(f"{text}\nmore\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "urls.txt").write_text("http://")
    found = read(tmp_path)
    assert [(text.split("\n")[0], label) for text, label in found] == [
        ("n0", "neg"),
        ("p0", "pos"),
        ("n1", "neg"),
        ("n2", "neg"),
        ("p1", "pos"),
        ("n3", "neg"),
    ]
    (tmp_path / "neg" / "0.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"neg/0\.txt: line 1 is not UTF-8 \(byte 0xe9\)"):
        read(tmp_path)


def test_a_saved_data_set_is_read(tmp_path):
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["merry", "calm"]))
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)
    datasets.DatasetDict(train=rows, dev=rows.select([1])).save_to_disk(tmp_path / "saved")
    config = DataConfig(dataset=str(tmp_path / "saved"), train="train", validation="dev")
    for split, names in (("train", ["calm", "merry", "calm"]), ("validation", ["merry"])):
        rows = read_rows(config, split, needed=["text", "label"])
        assert labels.label_values(rows, "label", "x") == names


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "N/A", "NULL", "-", "1e5", "007", "true"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_words_that_look_missing_stay_text(tmp_path, name, word):
    separator = "," if name == "a.csv" else "\t"
    (tmp_path / name).write_text(f"text{separator}label\n{word}{separator}{word}\nx{separator}y\n")
    assert read(tmp_path / name) == [(word, word), ("x", "y")]


def test_empty_texts_can_be_dropped(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nriver,calm\n  ,calm\n,merry\nstone,merry\n")
    assert read(tmp_path / "a.csv", empty_texts="drop") == [("river", "calm"), ("stone", "merry")]


# Labels


@pytest.mark.parametrize("column", [[0, 2, 1], [0.0, 2.0, 1.0], ["0", "2", "1"]])
def test_numeric_labels_of_any_type_are_the_same(column):
    rows = datasets.Dataset.from_dict({"label": column})
    assert labels.label_values(rows, "label", "x") == ["0", "2", "1"]


def test_label_that_is_nan_is_missing():
    rows = datasets.Dataset.from_dict({"label": [0.0, float("nan")]})
    with pytest.raises(UserError, match="row 2 has no label"):
        labels.label_values(rows, "label", "x")


def test_labels_are_found_by_number_and_by_name():
    names = ["no", "maybe", "yes"]
    assert labels.label_ids(["yes", "0", "1", "no"], names, rows_of("x")).tolist() == [2, 0, 1, 0]
    assert labels.label_ids(["7", "5"], ["5", "7"], rows_of("x")).tolist() == [1, 0]  # numbers are names here


def test_numbers_keep_the_head_of_a_model_with_named_labels(tmp_path):
    names = ["angry", "calm"]
    model = tiny.write_model(tmp_path / "m", labels=names)
    (tmp_path / "train.csv").write_text("text,label\nriver,1\nstorm,0\n")
    (tmp_path / "dev.csv").write_text("text,label\nriver,calm\nstorm,0\n")
    run = make_run(tiny.run_config(model, tmp_path, tmp_path / "run"))
    assert run.task.labels == tuple(names)
    assert not run.model.report.new
    assert run.data["train"].examples.columns["labels"].tolist() == [1, 0]
    assert run.data["validation"].examples.columns["labels"].tolist() == [1, 0]


# Encoding


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


def encoded(rows, tokenizer, directory, **options):
    config = DataConfig(**{"max_length": 16, "truncation": True, "cache": False} | options)
    return encode.encode_texts(rows, tokenizer, directory, config, "x")


def dataset(*texts: str, pairs=()) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": texts, **({"pair": pairs} if pairs else {})})


def ids(*words: str) -> list[int]:
    return [tiny.VOCABULARY.index(word) for word in words]


def test_a_text_becomes_token_ids(tokenizer, tiny_model):
    examples = encoded(dataset("The river", "storm xyz"), tokenizer, tiny_model)
    assert examples.lengths.tolist() == [4, 4]
    assert examples.tokens["input_ids"].tolist() == ids("[CLS]", "the", "river", "[SEP]", "[CLS]", "storm", "[UNK]", "[SEP]")


def test_a_pair_has_two_token_types_and_its_longer_text_is_truncated(tokenizer, tiny_model):
    rows = dataset("river " * 20, pairs=["stone stone"])
    examples = encoded(rows, tokenizer, tiny_model, text_pair="pair", max_length=8)
    assert examples.tokens["input_ids"].tolist() == ids(*["[CLS]", *["river"] * 3, "[SEP]", "stone", "stone", "[SEP]"])
    assert examples.tokens["token_type_ids"].tolist() == [0] * 5 + [1] * 3


def test_validation_share_is_seeded_disjoint_and_complete(tiny_model, tiny_data, tmp_path):
    def split(seed: int, more: int = 0) -> tuple[list, list]:
        data = {"validation": None, "validation_share": 0.2}
        run = make_run(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", data=data | {"split_seed": seed}, seed=more))
        return tuple(
            [tuple(np.split(x.tokens["input_ids"], x.offsets[1:-1])[i]) for i in range(len(x))]
            for x in (run.data["train"].examples, run.data["validation"].examples)
        )

    train, held = split(0)
    assert (len(train), len(held)) == (80, 20)
    rows = datasets.load_dataset("csv", data_files=str(tiny_data / "train.csv"), split="train")
    everything = encoded(rows, load_tokenizer(tiny_model), tiny_model, max_length=32)
    parts = np.split(everything.tokens["input_ids"], everything.offsets[1:-1])
    assert sorted(train + held) == sorted(map(tuple, parts))  # each exactly once
    assert split(0) == (train, held)
    assert split(0, more=1) == (train, held)  # the seed of the run does not matter
    assert split(1) != (train, held)


# The token cache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    assert cache_dir() == tmp_path / "cache"
    return tmp_path / "cache" / "tokens"


@pytest.mark.parametrize("pair", [None, "pair"])
@pytest.mark.parametrize("length", [6, 16])
def test_rows_are_encoded_as_transformers_encodes_each(tokenizer, tiny_model, monkeypatch, pair, length):
    """In several chunks, with texts that are truncated, empty or contain special tokens."""
    monkeypatch.setattr(encode, "CHUNK", 3)
    texts = ["the river", "", "old stone and song under the bridge", "[MASK] runs [SEP]", "storm", "zzz", "over the lake"]
    pairs = list(reversed(texts))
    rows = dataset(*texts, pairs=pairs)
    found = encoded(rows, tokenizer, tiny_model, text_pair=pair, max_length=length)
    for i, (text, other) in enumerate(zip(texts, pairs, strict=True)):
        expected = tokenizer([text], [other] if pair else None, truncation="longest_first", max_length=length)
        begin, end = found.offsets[i : i + 2]
        assert found.tokens["input_ids"][begin:end].tolist() == expected["input_ids"][0]
        assert found.tokens["token_type_ids"][begin:end].tolist() == expected["token_type_ids"][0]


def failing(tokenizer):
    """A tokenizer whose calls fail."""

    def call(self, *args, **kwargs):
        raise AssertionError("the cache was missed")

    name = type(tokenizer).__name__
    return type(name, (), {"__call__": call, "model_input_names": tokenizer.model_input_names})()


def same(a, b) -> bool:
    return all(np.array_equal(a.tokens[k], b.tokens[k]) for k in a.tokens) and np.array_equal(a.offsets, b.offsets)


def test_a_second_encoding_comes_from_the_cache(tokenizer, tiny_model, cache):
    rows = dataset("the river", "old stone")
    first = encoded(rows, tokenizer, tiny_model, cache=True)
    second = encoded(rows, failing(tokenizer), tiny_model, cache=True)
    assert same(first, second)
    assert isinstance(second.tokens["input_ids"], np.memmap)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("change", ["data", "length", "vocabulary", "truncation"])
def test_a_change_misses_the_cache(tokenizer, tiny_model, tmp_path, cache, change):
    encoded(dataset("the river"), tokenizer, tiny_model, cache=True)
    rows, directory, options = dataset("the river"), tiny_model, {}
    if change == "data":
        rows = dataset("the stone")
    elif change == "vocabulary":
        directory = tmp_path / "other"
        directory.mkdir()
        tiny.write_tokenizer(directory)
        (directory / "vocab.txt").write_text("\n".join(reversed(tiny.VOCABULARY)))
    else:
        options = {"length": {"max_length": 3}, "truncation": {"truncation": False}}[change]
    with pytest.raises(AssertionError, match="missed"):
        encoded(rows, failing(tokenizer), directory, cache=True, **options)


def test_a_cache_that_cannot_be_written_is_a_line(tokenizer, tiny_model, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "file"))
    assert encoded(dataset("the river"), tokenizer, tiny_model, cache=True).lengths.tolist() == [4]
    assert f"tokens are not cached in {tmp_path}/file/tokens: " in capsys.readouterr().err
