"""Tagged sentences are read from every kind of file, with the line or row of each."""

import gzip
import json

import datasets
import pytest

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.formats.sentences import location
from jaxft.data.formats.tagged import read_sentences
from jaxft.tasks.tag_labels import read_tags, scheme_of, tag_ids
from tests.support.tagged import read

SENTENCES = [(["The", "old", "bridge"], ["O", "O", "B-place"]), (["#", "sun"], ["O", "O"])]


def content(rows) -> list[tuple[list[str], list[str]]]:
    return list(zip(rows["words"], rows["tags"], strict=True))


TEXTS = {
    "a.conll": "The\tO\nold\tO\nbridge\tB-place\n\n#\tO\nsun\tO\n",
    "a.bio": "The O\nold  O\nbridge B-place\n\n\n# O\nsun O",
    "a.txt": "\ufeff-DOCSTART- -X- O\r\n\r\nThe DT O\r\nold JJ O\r\nbridge NN B-place\r\n\r\n# SYM O\r\nsun NN O\r\n",
    "a.tsv": "-DOCSTART-\tO\n\nThe\tO\nold\tO\nbridge\tB-place\n\t\n-DOCSTART-\tO\n\n#\tO\nsun\tO\n\t\n",
    "comments.conll": "# id = 1\n# text\nThe\tDT\tO\nold\tJJ\tO\nbridge\tNN\tB-place\n\n# 2\n#\t.\tO\n# odd\nsun\tNN\tO\n",
    "trailing.conll": "The\tDT\tO\t\nold\tJJ\tO \t\n bridge \tNN\tB-place\t\t\r\n \t \n#\t.\tO\nsun NN\tO  \n",
    "spaces.bio": "\ufeffThe  DT O \r\nold JJ\tO\r\nbridge NN B-place  \r\n  \r\n# . O\r\n sun NN O",
    "train": "The:O old:O bridge:B-place <=> Where\n#:O sun:O <=> What\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_format_gives_the_same_sentences(tmp_path, name):
    (tmp_path / name).write_bytes(TEXTS[name].encode())
    rows = read(tmp_path / name)
    assert content(rows) == SENTENCES
    lines = TEXTS[name].split("\n")
    for i, words in enumerate(rows["words"]):
        for j, word in enumerate(words):
            unit, number = location(rows, "", i, j)[1].split()
            assert unit == "line"
            assert word in lines[int(number) - 1]


CONLLU = """# sent_id = 1
# text = The\tbridge
1\tThe\tthe\tDET\tDT\t_\t2\tdet\t_\t_
2-3\tdella\t_\t_\t_\t_\t_\t_\t_\t_
2\tdi\tdi\tADP\tE\t_\t0\troot\t_\t_
2.1\tghost\t_\tX\tX\t_\t_\t_\t_\t_
3\tla\til\tDET\tRD\tNumber=Sing\t2\tdet\t_\tSpaceAfter=No

# sent_id = 2
1\t#\t#\tSYM\tSYM\t_\t0\troot\t_\t_
2\t10 000\t10000\tNUM\tCD\t_\t1\tnummod\t_\t_
"""


@pytest.mark.parametrize("name", TEXTS)
def test_carriage_returns_alone_may_end_lines(tmp_path, name):
    (tmp_path / name).write_bytes(TEXTS[name].replace("\r\n", "\n").replace("\n", "\r").encode())
    assert content(read(tmp_path / name)) == SENTENCES


def test_word_1_of_conllu_begins_a_sentence(tmp_path):
    (tmp_path / "a.conllu").write_text(CONLLU.replace("\n\n", "\n"))
    assert read(tmp_path / "a.conllu")["words"][:] == [["The", "di", "la"], ["#", "10 000"]]


@pytest.mark.parametrize("name", ["a.conllu", "a.txt", "a.conllu.gz"])
def test_columns_of_conllu_have_names(tmp_path, name):
    content = CONLLU.replace("\n", "\r\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    rows = read(tmp_path / name)
    assert rows["words"][:] == [["The", "di", "la"], ["#", "10 000"]]
    assert rows["tags"][:] == [["DET", "ADP", "DET"], ["SYM", "NUM"]]
    assert location(rows, "", 0, 2)[1] == "line 7"
    assert read(tmp_path / name, label="xpos")["tags"][0] == ["DT", "E", "RD"]
    assert read(tmp_path / name, label="feats")["tags"][0] == ["_", "_", "Number=Sing"]
    assert read(tmp_path / name, label=None, text="lemma")["words"][:] == [["the", "di", "il"], ["#", "10000"]]
    with pytest.raises(UserError, match=r'data\.label is "xpoz", but the columns of CoNLL-U are .*did you mean "xpos"'):
        read(tmp_path / name, label="xpoz")


def test_a_tsv_file_with_a_header_is_a_table(tmp_path):
    (tmp_path / "a.tsv").write_text("id\ttext\tlabel\n1\tThe old bridge\tO O B-place\n2\t# sun\tO O\n")
    assert content(read(tmp_path / "a.tsv")) == SENTENCES
    assert read(tmp_path / "a.tsv", label=None)["words"][:] == [words for words, _ in SENTENCES]
    (tmp_path / "a.conll").write_text("a O\n")
    with pytest.raises(UserError, match="some of these files are tables and some are text"):
        read_sentences(DataConfig(train=[str(tmp_path / x) for x in ("a.tsv", "a.conll")]), "train", "label")


def test_columns_may_be_named(tmp_path):
    """GermEval 2014: number, word, outer and inner tag, a comment with the source before each sentence."""
    (tmp_path / "a.tsv").write_text("#\thttp://x\t[2009]\n1\tThe\tO\tO\n2\told\tB-x\tO\n3\tbridge\tI-x\tB-place\n")
    names = {"columns": ["number", "word", "outer", "inner"], "text": "word"}
    assert content(read(tmp_path / "a.tsv", label="inner", **names)) == [(["The", "old", "bridge"], ["O", "O", "B-place"])]
    with pytest.raises(UserError, match=r'data\.label is "iner", but data\.columns names .*did you mean "inner"'):
        read(tmp_path / "a.tsv", label="iner", **names)
    with pytest.raises(UserError, match=r"line 2 has 4 columns, but data\.columns names 2"):
        read(tmp_path / "a.tsv", label="word", columns=["number", "word"], text="word")


def test_a_header_that_repeats_data_columns_is_no_word(tmp_path):
    (tmp_path / "a.tsv").write_text("word\ttag\nsun\tO\nword\ttag\n")
    rows = read(tmp_path / "a.tsv", columns=["word", "tag"], text="word", label="tag")
    assert content(rows) == [(["sun", "word"], ["O", "tag"])]


def test_words_are_read_without_tags(tmp_path):
    (tmp_path / "a.txt").write_text("The\nold\n\nsun\n")
    rows = read(tmp_path / "a.txt", label=None)
    assert rows["words"][:] == [["The", "old"], ["sun"]]
    assert "tags" not in rows.column_names


def test_unusual_white_space_separates_nothing(tmp_path):
    """Line feeds end lines, and in a file with tabs only tabs separate columns."""
    words = ["a\u2028b", "\u00a0", "c\x85d", "e f", "\u200b", '"'] * 2
    (tmp_path / "a.conll").write_text("".join(f"{word}\tO\n" for word in words), encoding="utf-8")
    assert read(tmp_path / "a.conll")["words"][:] == [words]


def write_table(path, tags: datasets.List) -> None:
    names = getattr(tags.feature, "names", None)
    rows = [{"tokens": w, "ner_tags": [names.index(x) for x in t] if names else t} for w, t in SENTENCES]
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": tags})
    data = datasets.Dataset.from_list(rows, features=features)
    if path.suffix == ".parquet":
        data.to_parquet(path)
    else:
        data.to_json(path, lines=path.suffix == ".jsonl")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", datasets.Value("string")),
        ("a.json", datasets.Value("string")),
        ("a.parquet", datasets.Value("string")),
        ("a.parquet", datasets.ClassLabel(names=["B-place", "O"])),
    ],
)
def test_tables_may_have_lists_of_words_and_tags(tmp_path, name, kind):
    write_table(tmp_path / name, datasets.List(kind))
    rows = read(tmp_path / name, text="tokens", label="ner_tags")
    assert content(rows) == SENTENCES
    assert location(rows, "", 1)[1] == "row 2"


def test_a_saved_data_set_is_read(tmp_path):
    labels = datasets.List(datasets.ClassLabel(names=["O", "B-place"]))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": labels})
    rows = [{"tokens": w, "ner_tags": [int(x != "O") for x in t]} for w, t in SENTENCES]
    datasets.DatasetDict({"dev": datasets.Dataset.from_list(rows, features=features)}).save_to_disk(tmp_path / "d")
    config = DataConfig(dataset=str(tmp_path / "d"), train="dev", text="tokens", label="ner_tags")
    assert content(read_sentences(config, "train", "ner_tags")) == SENTENCES


def test_text_is_split_at_whitespace(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nThe old  bridge,O O B-place\n# sun,O O\n")
    assert content(read(tmp_path / "a.csv")) == SENTENCES
    # data.columns describes the text files of a run, not a table with a header.
    assert read(tmp_path / "a.csv", label=None, columns=["text", "pos", "tag"])["words"][:] == [w for w, _ in SENTENCES]


def test_numeric_tags_are_named_by_task_labels(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": ["a", "b"], "label": [1, 0]}) + "\n")
    rows = read(tmp_path / "a.jsonl")
    assert read_tags(rows, ["O", "S-x"], "bioes", "a.jsonl") == [["B-x", "O"]]
    assert tag_ids(rows, [], ["0", "1"], "none", "a.jsonl").tolist() == [1, 0]
    with pytest.raises(UserError, match=r'a\.jsonl: row 1 has the tag "1" \("a"\), but there are only 1 labels'):
        read_tags(rows, ["O"], "iob2", "a.jsonl")
    with pytest.raises(UserError, match=r"the tags are numbers \(0, 1\); name them in task\.labels"):
        scheme_of({"1", "0"}, "auto", "a.jsonl")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "-DOCSTART- O\n\n-DOCSTART- O\nold O\n", [["old"]]),
        ("a.jsonl", '{"text": ["a"], "label": ["O"]}\n{"text": [], "label": []}\n', [["a"]]),
    ],
)
def test_empty_sentences_are_dropped_on_request(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    assert read(tmp_path / name, empty_texts="drop")["words"][:] == words


@pytest.mark.parametrize(
    ("name", "sentences", "labels"),
    [
        ("wnut17/emerging.dev.conll", 1009, 13),
        ("wnut17/emerging.test.annotated", 1287, 13),
        ("ncbi_disease/dev.txt", 923, 3),
        ("snips/valid", 700, 67),
        ("hf_fixtures/GermEval/train.txt", None, 8),
        ("hf_fixtures/conll/sample.json", 10, 6),
    ],
)
def test_real_files_are_read(shared_data, name, sentences, labels):
    names = {"text": "words", "label": "ner"} if name.endswith(".json") else {"label": "label"}
    rows = read(shared_data / name, **names)
    assert sentences in (None, len(rows))
    found = read_tags(rows, [], "auto", name)
    distinct = {tag for tags in found for tag in tags}
    assert len(distinct) == labels
    assert scheme_of(distinct, "auto", name) == "auto"
    assert found == rows["tags"][:]  # all of them are IOB2
