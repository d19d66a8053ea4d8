"""Reads CoNLL-U, the format of Universal Dependencies: ten columns between tabs, comments, ranges and empty nodes."""

import re
from collections.abc import Sequence

from jaxft.config import DataConfig
from jaxft.core.errors import UserError, nearest
from jaxft.data.formats.sentences import Sentences

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
SUFFIXES = (".conllu", ".conllup")
_FIRST = re.compile(r"(1|1-\d+|0\.1)\t")
_NOT_A_WORD = re.compile(r"\d+[-.]\d+")  # a multiword token such as 1-2, or an empty node such as 1.1


def is_conllu(line: str, suffix: str) -> bool:
    """Whether a file is CoNLL-U, judging by its first line that is not a comment, or by its suffix."""
    return suffix in SUFFIXES or (bool(_FIRST.match(line)) and line.count("\t") == len(COLUMNS) - 1)


def read_conllu(lines: Sequence[str], config: DataConfig, path: str, label: str | None) -> Sentences:
    """Reads the words of sentences and one of their other columns as tags.

    Args:
      lines: lines of the file.
      config: its `text` is a name of COLUMNS; the default is form.
      path: of the file, for messages.
      label: a name of COLUMNS; `label`, the default of the config, means upos. None reads no tags.

    Raises:
      UserError: for an unknown column, or a line that does not have ten columns.
    """
    at_word = _column("text", config.text, "text", "form")
    at_tag = _column("label", label, "label", "upos") if label else -1
    sentences, new_sentence = Sentences("line", files=[(path, len(lines))]), True
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            new_sentence = new_sentence or not line.strip()
            continue
        columns = line.rstrip(" \t").split("\t") if line.count("\t") >= len(COLUMNS) else line.split("\t")
        if len(columns) != len(COLUMNS):
            raise UserError(f"{path}: line {number} has {len(columns)} columns between tabs; CoNLL-U has {len(COLUMNS)}")
        if _NOT_A_WORD.fullmatch(columns[0]):
            continue
        word, tag = columns[at_word].strip(" "), columns[at_tag].strip() if label else ""
        if not word or (label and not tag):
            raise UserError(f"{path}: line {number} has no {'tag' if word else 'word'}")
        sentences.add(word, tag, number, new_sentence or columns[0] == "1")
        new_sentence = False
    return sentences


def _column(option: str, name: str, default: str, conllu_default: str) -> int:
    name = conllu_default if name == default else name
    if name.lower() not in COLUMNS:
        raise UserError(
            f'data.{option} is "{name}", but the columns of CoNLL-U are {", ".join(COLUMNS)}{nearest(name, COLUMNS)}'
        )
    return COLUMNS.index(name.lower())
