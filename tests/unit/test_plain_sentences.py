"""Text files without tags: which are plain sentences, and which are columns of words."""

import pytest

from jaxft.core.errors import UserError
from tests.support.tagged import read

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
def test_plain_text_is_read_as_sentences(tmp_path, capsys, case):
    (tmp_path / "a.txt").write_text(PLAIN[case], encoding="utf-8")
    rows = read(tmp_path / "a.txt", label=None)
    assert capsys.readouterr().err == f"{tmp_path / 'a.txt'}: read as plain text, one sentence per line\n"
    assert rows["text"][:] == PLAIN[case].strip().split("\n")
    assert ["".join(words) for words in rows["words"]] == ["".join(text.split()) for text in rows["text"]]


@pytest.mark.parametrize("case", ["capitals at the end", "same number of words", "without spaces"])
def test_plain_text_is_refused_in_training(tmp_path, case):
    (tmp_path / "a.txt").write_text(PLAIN[case], encoding="utf-8")
    with pytest.raises(UserError):
        read(tmp_path / "a.txt")


def test_named_columns_are_not_taken_for_plain_text(tmp_path):
    (tmp_path / "a.txt").write_text("the det\nsun noun\n")
    assert read(tmp_path / "a.txt", label=None, columns=["word", "pos"], text="word")["words"][:] == [["the", "sun"]]
    (tmp_path / "b.txt").write_text("the sun is out\nall day\n")
    assert len(read(tmp_path / "b.txt", label=None, columns=["word", "pos"], text="word")) == 2
    (tmp_path / "a.bio").write_text("the det\nsun noun\n")
    assert read(tmp_path / "a.bio", label=None)["words"][:] == [["the", "sun"]]


def test_empty_lines_of_plain_text_are_refused_dropped_or_null(tmp_path):
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
def test_columns_are_not_taken_for_plain_text(tmp_path, capsys, case):
    (tmp_path / "a.txt").write_text(COLUMNS[case])
    assert read(tmp_path / "a.txt", label=None)["words"][:] == [["The", "old"], ["#"]]
    assert capsys.readouterr().err == f"{tmp_path / 'a.txt'}: read as CoNLL columns\n"
