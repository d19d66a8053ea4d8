"""Tagged sentences from every kind of file, and what is wrong with a file, by line."""

import gzip
import json

import datasets
import pytest

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.formats.sentences import location
from jaxft.data.formats.tagged import read_sentences
from jaxft.tasks.tag_labels import read_tags, scheme_of, tag_ids

SENTENCES = [(["The", "old", "bridge"], ["O", "O", "B-place"]), (["#", "sun"], ["O", "O"])]


def read(path, *, label: str | None = "label", **options):
    return read_sentences(DataConfig(train=path if isinstance(path, list) else str(path), **options), "train", label)


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
def test_text_files(tmp_path, name):
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
def test_carriage_returns_end_lines_where_no_line_feeds_do(tmp_path, name):
    (tmp_path / name).write_bytes(TEXTS[name].replace("\r\n", "\n").replace("\n", "\r").encode())
    assert content(read(tmp_path / name)) == SENTENCES


def test_the_first_word_of_conllu_begins_a_sentence(tmp_path):
    (tmp_path / "a.conllu").write_text(CONLLU.replace("\n\n", "\n"))
    assert read(tmp_path / "a.conllu")["words"][:] == [["The", "di", "la"], ["#", "10 000"]]


@pytest.mark.parametrize("name", ["a.conllu", "a.txt", "a.conllu.gz"])
def test_conllu(tmp_path, name):
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


PLAIN = {
    "same number of words": "John lives in Paris\nMary lives in London",
    "one word in a line": "Hello\nJohn lives in Paris\n",
    "in capitals": "JOHN LIVES IN PARIS\nMARY LIVES IN LONDON\n",
    "numbered": "1\tJohn lives in Paris\n2\tMary lives in London\n",
    "without spaces": "\u6211\u4f4f\u5728\u5317\u4eac\n\u4ed6\u53bb\u4e86\u4e0a\u6d77\u3002\n",
    "full stops apart": "John lives in Paris .\nMary does not .\nWhy ?\n",
    "full stops apart, of one length": "John sleeps .\nMary does !\nBill runs .\n",
    "one full stop": "John sleeps .\nMary does .\nBill runs .\nSue swims .\nAnn sits .\nEve eats .\n",
    "an arrow": "A <=> B: an arrow\nNo arrow here\n",
    "capitals at the end": "we went to NASA\nhe lives in USA\nshe works at IBM\nthey saw the CIA\n",
    "few words at the end": "turn lamp on\nput radio off\nswitch tv on\nmake fan off\nset heater on\nkeep light off\n",
    "the letter O at the end": "apple was O\nbanana was O\nfilm was O\n",
    "two columns of words": "hello NASA\nvisit IBM\n",
    "a word in a line": "Hello\nLondon\n",
    "e-mails": "check the e-mail\nread the e-mail\nsend the e-mail\n",
    "roads": "they took I-95\nwe took I-80\n",
    "a tag or two": "The bridge O\nJohn lives in Paris\nB-x marks the spot\n",
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain_text_is_read_whole(tmp_path, capsys, case):
    (tmp_path / "a.txt").write_text(PLAIN[case], encoding="utf-8")
    rows = read(tmp_path / "a.txt", label=None)
    assert capsys.readouterr().err == f"{tmp_path / 'a.txt'}: read as plain text, one sentence per line\n"
    assert rows["text"][:] == PLAIN[case].strip().split("\n")
    assert ["".join(words) for words in rows["words"]] == ["".join(text.split()) for text in rows["text"]]


@pytest.mark.parametrize("case", ["capitals at the end", "same number of words", "without spaces"])
def test_plain_text_is_not_trained_on(tmp_path, case):
    (tmp_path / "a.txt").write_text(PLAIN[case], encoding="utf-8")
    with pytest.raises(UserError):
        read(tmp_path / "a.txt")


def test_named_columns_are_no_plain_text(tmp_path):
    (tmp_path / "a.txt").write_text("the det\nsun noun\n")
    assert read(tmp_path / "a.txt", label=None, columns=["word", "pos"], text="word")["words"][:] == [["the", "sun"]]
    (tmp_path / "b.txt").write_text("the sun is out\nall day\n")
    assert len(read(tmp_path / "b.txt", label=None, columns=["word", "pos"], text="word")) == 2
    (tmp_path / "a.bio").write_text("the det\nsun noun\n")
    assert read(tmp_path / "a.bio", label=None)["words"][:] == [["the", "sun"]]


def test_empty_lines_of_plain_text(tmp_path):
    (tmp_path / "a.txt").write_text("I am here.\n\nYou are there.\n\n")
    with pytest.raises(UserError, match=r"a\.txt: line 2 has no words \(data\.empty_texts drop"):
        read(tmp_path / "a.txt", label=None)
    assert len(read(tmp_path / "a.txt", label=None, empty_texts="drop")) == 2
    rows = read(tmp_path / "a.txt", label=None, empty_texts="null")
    assert rows["text"][:] == ["I am here.", None, "You are there.", None]
    spaced = read(tmp_path / "a.txt", label=None, empty_texts="drop", split_words="spaces")
    assert spaced["words"][0] == ["I", "am", "here."]


COLUMNS = {
    "tabs": "The\tdet\nold\tadj\n\n#\tsym\n",
    "typed tags": "The DT O\nold JJ B-x\n\n# SYM O\n",
    "typed tags of another spelling": "The o\nold b-x\n\n# o\n",
    "typed tags alone": "The B-x\nold I-x\n\n# B-y\n",
    "a document": "-DOCSTART- X\n\nThe DT\nold JJ\n\n# SYM\n",
    "words and blank lines": "The\nold\n\n#\n",
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_are_no_plain_text(tmp_path, capsys, case):
    (tmp_path / "a.txt").write_text(COLUMNS[case])
    assert read(tmp_path / "a.txt", label=None)["words"][:] == [["The", "old"], ["#"]]
    assert capsys.readouterr().err == f"{tmp_path / 'a.txt'}: read as CoNLL columns\n"


def test_tables_between_tabs(tmp_path):
    (tmp_path / "a.tsv").write_text("id\ttext\tlabel\n1\tThe old bridge\tO O B-place\n2\t# sun\tO O\n")
    assert content(read(tmp_path / "a.tsv")) == SENTENCES
    assert read(tmp_path / "a.tsv", label=None)["words"][:] == [words for words, _ in SENTENCES]
    (tmp_path / "a.conll").write_text("a O\n")
    with pytest.raises(UserError, match="some of these files are tables and some are text"):
        read_sentences(DataConfig(train=[str(tmp_path / x) for x in ("a.tsv", "a.conll")]), "train", "label")


def test_named_columns(tmp_path):
    """GermEval 2014: number, word, outer and inner tag, a comment with the source before each sentence."""
    (tmp_path / "a.tsv").write_text("#\thttp://x\t[2009]\n1\tThe\tO\tO\n2\told\tB-x\tO\n3\tbridge\tI-x\tB-place\n")
    names = {"columns": ["number", "word", "outer", "inner"], "text": "word"}
    assert content(read(tmp_path / "a.tsv", label="inner", **names)) == [(["The", "old", "bridge"], ["O", "O", "B-place"])]
    with pytest.raises(UserError, match=r'data\.label is "iner", but data\.columns names .*did you mean "inner"'):
        read(tmp_path / "a.tsv", label="iner", **names)
    with pytest.raises(UserError, match=r"line 2 has 4 columns, but data\.columns names 2"):
        read(tmp_path / "a.tsv", label="word", columns=["number", "word"], text="word")


def test_a_header_that_says_what_columns_say_is_no_word(tmp_path):
    (tmp_path / "a.tsv").write_text("word\ttag\nsun\tO\nword\ttag\n")
    rows = read(tmp_path / "a.tsv", columns=["word", "tag"], text="word", label="tag")
    assert content(rows) == [(["sun", "word"], ["O", "tag"])]


def test_words_without_tags(tmp_path):
    (tmp_path / "a.txt").write_text("The\nold\n\nsun\n")
    rows = read(tmp_path / "a.txt", label=None)
    assert rows["words"][:] == [["The", "old"], ["sun"]]
    assert "tags" not in rows.column_names


def test_odd_characters_separate_nothing(tmp_path):
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
def test_tables_with_lists(tmp_path, name, kind):
    write_table(tmp_path / name, datasets.List(kind))
    rows = read(tmp_path / name, text="tokens", label="ner_tags")
    assert content(rows) == SENTENCES
    assert location(rows, "", 1)[1] == "row 2"


def test_a_saved_data_set(tmp_path):
    labels = datasets.List(datasets.ClassLabel(names=["O", "B-place"]))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": labels})
    rows = [{"tokens": w, "ner_tags": [int(x != "O") for x in t]} for w, t in SENTENCES]
    datasets.DatasetDict({"dev": datasets.Dataset.from_list(rows, features=features)}).save_to_disk(tmp_path / "d")
    config = DataConfig(dataset=str(tmp_path / "d"), train="dev", text="tokens", label="ner_tags")
    assert content(read_sentences(config, "train", "ner_tags")) == SENTENCES


def test_text_is_split_at_whitespace(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nThe old  bridge,O O B-place\n# sun,O O\n")
    assert content(read(tmp_path / "a.csv")) == SENTENCES
    # data.columns is of the run's text files, not of a table that has a header.
    assert read(tmp_path / "a.csv", label=None, columns=["text", "pos", "tag"])["words"][:] == [w for w, _ in SENTENCES]


def test_numbers_are_names_by_task_labels(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": ["a", "b"], "label": [1, 0]}) + "\n")
    rows = read(tmp_path / "a.jsonl")
    assert read_tags(rows, ["O", "S-x"], "bioes", "a.jsonl") == [["B-x", "O"]]
    assert tag_ids(rows, [], ["0", "1"], "none", "a.jsonl").tolist() == [1, 0]
    with pytest.raises(UserError, match=r'a\.jsonl: row 1 has the tag "1" \("a"\), but there are only 1 labels'):
        read_tags(rows, ["O"], "iob2", "a.jsonl")
    with pytest.raises(UserError, match=r"the tags are numbers \(0, 1\); name them in task\.labels"):
        scheme_of({"1", "0"}, "auto", "a.jsonl")


BAD = {
    "no tag at the end": ("a.conll", "The\tO\nold\n", ["line 2 has 1 columns", "the first word's line has 2"]),
    "more columns": ("a.conll", "The O\n\nold JJ O\n", ["line 3 has 3 columns"]),
    "plain text": ("a.txt", "The old bridge\nThe sun\n", ["line 2 has 2 columns", "has 3"]),
    "one column": ("a.txt", "The\nold\n", ["one column", "a word and its tag"]),
    "empty word": ("a.tsv", "The\tO\n\tO\n", ["line 2 has no word"]),
    "empty tag": ("a.tsv", "The\tO\nold\t\n", ["line 2 has no tag"]),
    "empty document": ("a.txt", "-DOCSTART- O\n\nThe O\n\n-DOCSTART- O\n\n-DOCSTART- O\nold O\n", ["line 5", "document"]),
    "empty last document": ("a.txt", "The O\n-DOCSTART- O\n\n", ["line 2", "document without words", "data.empty_texts"]),
    "no sentences": ("a.txt", "\n\n", ["no sentences"]),
    "empty file": ("a.conll", "", ["the file is empty (data.train)"]),
    "numbers for words": ("a.txt", "1\tThe\tO\n2\told\tO\n\n1\tsun\tO\n", ["first column holds numbers", "data.columns"]),
    "sentences": ("a.txt", "The sun is out\nA river runs there\n", ["a.txt: the lines are sentences", "data.train"]),
    "not ten columns": ("a.conllu", "1\tThe\t_\tDET\n", ["line 1 has 4 columns", "CoNLL-U has 10"]),
    "no form": ("a.conllu", "1\t\t_\tDET" + 6 * "\t_" + "\n", ["line 1 has no word"]),
    "not a pair": ("train", "a:O b:O <=> x\na:O b <=> x\n", ["line 2", '"b"', "word:tag"]),
    "counts differ": ("a.jsonl", '{"text": ["a", "b"], "label": ["O"]}\n', ["row 1 has 2 words but 1 tags"]),
    "counts of text differ": ("a.csv", "text,label\na,O\na b,O O O\n", ["row 2 has 2 words but 3 tags"]),
    "no words": ("a.jsonl", '{"text": ["a"], "label": ["O"]}\n{"text": [], "label": []}\n', ["row 2 has no words"]),
    "null": ("a.jsonl", '{"text": ["a"], "label": ["O"]}\n{"text": null, "label": ["O"]}\n', ["row 2", "None", "words"]),
    "null tags": ("a.jsonl", '{"text": ["a"], "label": ["O"]}\n{"text": ["b"], "label": null}\n', ["row 2", "tags"]),
    "null word": ("a.jsonl", '{"text": ["a", null], "label": ["O", "O"]}\n', ["row 1", "list of words"]),
    "number": ("a.jsonl", '{"text": 5, "label": ["O"]}\n', ["row 1", "5", "list of words"]),
    "blank tag": ("a.jsonl", '{"text": ["a"], "label": [" "]}\n', ["row 1 has an empty tag"]),
    "no column": ("a.jsonl", '{"words": ["a"], "label": ["O"]}\n', ['no column "text"', "words"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, case):
    name, text, words = BAD[case]
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as error:
        read(tmp_path / name)
    for word in [name, *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_not_utf8(tmp_path):
    (tmp_path / "a.conll").write_bytes(b"The O\ncaf\xe9 O\n")
    with pytest.raises(UserError, match=r"a\.conll: line 2 is not UTF-8 \(byte 0xe9\)"):
        read(tmp_path / "a.conll")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "-DOCSTART- O\n\n-DOCSTART- O\nold O\n", [["old"]]),
        ("a.jsonl", '{"text": ["a"], "label": ["O"]}\n{"text": [], "label": []}\n', [["a"]]),
    ],
)
def test_what_is_empty_is_left_out_on_request(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    assert read(tmp_path / name, empty_texts="drop")["words"][:] == words


def test_tags_outside_the_scheme_are_named_by_line(tmp_path):
    (tmp_path / "a.conll").write_text("The\tO\n\nold\tO\nbridge\tplace\n")
    rows = read(tmp_path / "a.conll")
    with pytest.raises(UserError, match=r'x: line 4 has the tag "place" \("bridge"\), which is neither O nor begins'):
        read_tags(rows, [], "auto", "x")
    with pytest.raises(UserError, match=r'x: line 4 has the tag "place" \("bridge"\), which is not one of the 1 known'):
        tag_ids(rows, [], ["O"], "none", "x")


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
def test_real_files(shared_data, name, sentences, labels):
    names = {"text": "words", "label": "ner"} if name.endswith(".json") else {"label": "label"}
    rows = read(shared_data / name, **names)
    assert sentences in (None, len(rows))
    found = read_tags(rows, [], "auto", name)
    distinct = {tag for tags in found for tag in tags}
    assert len(distinct) == labels
    assert scheme_of(distinct, "auto", name) == "auto"
    assert found == rows["tags"][:]  # all of them are IOB2


FAULTS = {
    "counts": ({"text": ["a", "b"], "label": ["O"]}, "has 2 words but 1 tags"),
    "words": ({"text": [], "label": []}, "has no words"),
    "value": ({"text": ["a"], "label": None}, 'has None in column "label"'),
    "tag": ({"text": ["a"], "label": [" "]}, "has an empty tag"),
    "span": ({"text": "a", "label": [[0, 9, "x"]]}, ""),
    "text of a span": ({"text": " ", "label": [[0, 1, "x"]]}, "has no words"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_rows_are_those_of_their_own_file(tmp_path, case):
    row, words = FAULTS[case]
    good = {"text": "a", "label": [[0, 1, "x"]]} if "span" in case else {"text": ["a"], "label": ["O"]}
    for name, rows in (("a", [good, good]), ("b", [good, row])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in rows))
    with pytest.raises(UserError) as error:
        read(tmp_path / "*.jsonl")
    assert f"{tmp_path / 'b.jsonl'}: row 2" in str(error.value)
    assert words in str(error.value)
    assert "a.jsonl" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "first", "second", "unit"),
    [
        ("conll", "a O\n\nb O\n", "a O\nb ?\n", "line 2"),
        ("conllu", "1\ta" + 8 * "\tO" + "\n", "1\ta" + 8 * "\tO" + "\n2\tb" + 8 * "\t?" + "\n", "line 2"),
        ("jsonl", 2 * '{"text": ["a"], "label": ["O"]}\n', '{"text": ["a", "b"], "label": ["O", "?"]}\n', "row 1"),
        ("jsonl", 2 * '{"text": "a", "label": [[0, 1, "x"]]}\n', '{"text": "a b", "label": [[2, 3, "?"]]}\n', "row 1"),
        ("csv", "text,label,sentence\na,O,1\na,O,1\n", "text,label,sentence\na,O,2\nb,?,2\n", "row 2"),
    ],
)
def test_tags_are_those_of_their_own_file(tmp_path, kind, first, second, unit):
    (tmp_path / f"a.{kind}").write_text(first)
    (tmp_path / f"b.{kind}").write_text(second)
    rows = read([str(tmp_path / f"{x}.{kind}") for x in "ab"])
    rows = rows.select([len(rows) - 1])  # where some were left out since
    with pytest.raises(UserError, match=rf'^{tmp_path}/b\.{kind}: {unit} has the tag "(B-)?\?" \("b"\), which is not one'):
        tag_ids(rows, [], ["O", "B-x"], "none", "a, b")
