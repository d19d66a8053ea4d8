"""Tables with one word per row: how their sentences are found, and what is refused."""

import pytest

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.formats.sentences import location
from jaxft.data.formats.tagged import read_sentences

SENTENCES = [["John", "lives", ","], ["Mary", "NA"]], [["B-per", "O", "O"], ["B-per", "O"]]
ROWS = [("John", "B-per"), ("lives", "O"), ('","', "O"), ("Mary", "B-per"), ("NA", "O")]


def read(path, header: str, marks: list[str], rows=ROWS, *, label: str | None = "Tag", **options):
    lines = [f"{mark},{word},X,{tag}" for mark, (word, tag) in zip(marks, rows, strict=True)]
    path.write_text("\n".join([f"{header},Word,POS,Tag", *lines]) + "\n")
    return read_sentences(DataConfig(train=str(path), text="Word", **options), "train", label)


@pytest.mark.parametrize(
    ("header", "marks"),
    [
        ("Sentence #", ["Sentence: 1", "", "", "Sentence: 2", ""]),  # Kaggle
        ("Sentence #", ["S", "", "", "S", ""]),
        ("sentence_id", list("11122")),  # simpletransformers
        ("SentID", list("00011")),
        ("sentence_idx", ["1.0", "1.0", "1.0", "2.0", "2.0"]),
        ("doc_id,sentence_id", ["a,0", "a,0", "a,0", "b,0", "b,0"]),  # of several documents
        ("sentence_id,file", ["1,", "1,x", "1,", "2,", "2,"]),  # no document, since it is not filled
    ],
)
def test_words_are_grouped_by_their_sentence(tmp_path, header, marks):
    rows = read(tmp_path / "a.csv", header, marks)
    assert (rows["words"][:], rows["tags"][:]) == SENTENCES
    assert location(rows, "", 1, 1)[1] == "row 5"
    assert read(tmp_path / "a.csv", header, marks, label=None)["words"][:] == SENTENCES[0]


def test_sentence_columns_may_be_named(tmp_path):
    rows = read(tmp_path / "a.csv", "sid", list("11122"), sentence_column="sid")
    assert rows["words"][:] == SENTENCES[0]
    rows = read(tmp_path / "a.csv", "document,sid", ["1,1", "1,1", "1,1", "2,1", "2,1"], sentence_column=["document", "sid"])
    assert rows["words"][:] == SENTENCES[0]
    # A model that was trained on such a table may be asked for texts.
    (tmp_path / "b.csv").write_text("Word\nJohn lives\n")
    texts = read_sentences(DataConfig(test=str(tmp_path / "b.csv"), text="Word", sentence_column="sid"), "test", None)
    assert texts["words"][:] == [["John", "lives"]]


def test_null_rows_of_a_jsonl_file_are_skipped(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"sentence": 1, "text": "a", "label": "O"}\n{"sentence": null, "text": null, "label": null}\n'
        '{"sentence": 2, "text": "b", "label": "B-x"}\n'
    )
    rows = read_sentences(DataConfig(train=str(tmp_path / "a.jsonl")), "train", "label")
    assert (rows["words"][:], rows["tags"][:]) == ([["a"], ["b"]], [["O"], ["B-x"]])


@pytest.mark.parametrize("marks", [list("11122"), ["S", "", "", "S", ""]], ids=["whole", "first rows"])
def test_blank_rows_are_skipped(tmp_path, marks):
    rows = [*ROWS[:3], ("", ""), *ROWS[3:], ("", "")]
    (tmp_path / "a.csv").write_text(
        "Sentence #,Word,Tag\n"
        + "".join(f"{m},{w},{t}\n" for m, (w, t) in zip([*marks[:3], "", *marks[3:], ""], rows, strict=True))
    )
    found = read_sentences(DataConfig(train=str(tmp_path / "a.csv"), text="Word"), "train", "Tag")
    assert found["words"][:] == SENTENCES[0]


def test_a_sentence_ends_with_its_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"sentence_id,text,label\n1,x{name},O\n1,y,B-x\n")
    files = [str(tmp_path / x) for x in ("a.csv", "b.csv")]
    assert read_sentences(DataConfig(train=files), "train", "label")["words"][:] == [["xa", "y"], ["xb", "y"]]


def test_only_the_first_row_of_a_sentence_needs_its_number(tmp_path):
    marks = ["a,1", "a,", "a,", "b,1", "b,"]
    rows = read(tmp_path / "a.csv", "doc,sid", marks, sentence_column=["doc", "sid"])
    assert rows["words"][:] == SENTENCES[0]


BAD = {
    "no sentence": ("sentence_id", ["1", "1", "", "2", "2"], {}, ['row 3 has nothing in column "sentence_id"']),
    "no sentence anywhere": ("sentence_id", [""] * 5, {}, ['row 1 has nothing in column "sentence_id"']),
    "no column": ("sid", list("11122"), {}, ['one word ("Word") with one tag ("Tag")', "data.sentence_column", "sid, Word"]),
    "misspelt": ("sid", list("11122"), {"sentence_column": "sidd"}, ['no column "sidd"', 'did you mean "sid"']),
    "apart": ("sentence_id", list("11221"), {}, ['row 5 begins sentence_id "1" again', "[DOCUMENT, SENTENCE]"]),
    "no word": ("sentence_id", list("11122"), {"rows": [*ROWS[:4], ("", "O")]}, ['row 5 has no word in column "Word"']),
    "no tag": ("sentence_id", list("11122"), {"rows": [*ROWS[:4], ("x", "")]}, ['row 5 has no tag in column "Tag"']),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_refused(tmp_path, case):
    header, marks, options, words = BAD[case]
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.csv", header, marks, **options)
    for word in ["a.csv", *words]:
        assert word in str(error.value)


def test_single_words_are_texts_in_prediction(tmp_path):
    (tmp_path / "a.csv").write_text("text\nParis\nLondon\n")
    rows = read_sentences(DataConfig(test=str(tmp_path / "a.csv")), "test", None)
    assert rows["words"][:] == [["Paris"], ["London"]]


def test_rows_with_whole_sentences_are_not_joined(tmp_path):
    """Whatever the other columns are called, and also if lists are written as text (Kaggle's ner.csv)."""
    (tmp_path / "a.csv").write_text("Sentence #,text,label\n1,The old bridge,O O B-x\n2,sun,O\n3,\"['a']\",\"['O']\"\n")
    rows = read_sentences(DataConfig(train=str(tmp_path / "a.csv")), "train", "label")
    assert rows["words"][:] == [["The", "old", "bridge"], ["sun"], ["a"]]
    assert rows["tags"][:] == [["O", "O", "B-x"], ["O"], ["O"]]


def test_messages_count_rows_within_their_file(tmp_path):
    (tmp_path / "a.csv").write_text("text,label,sentence\na,O,1\na,O,1\na,O,1\n")
    (tmp_path / "b.csv").write_text("text,label,sentence\na,O,2\nb,,2\n")
    files = [str(tmp_path / x) for x in ("a.csv", "b.csv")]
    with pytest.raises(UserError, match=rf'^{files[1]}: row 2 has no tag in column "label"'):
        read_sentences(DataConfig(train=files), "train", "label")
