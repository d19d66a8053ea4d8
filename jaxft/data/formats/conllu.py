"""CoNLL-U, the format of Universal Dependencies: ten columns between tabs, comments, ranges and empty nodes."""

import re
from collections.abc import Sequence

from jaxft.config import DataConfig
from jaxft.core.errors import UserError, nearest
from jaxft.data.formats.sentences import Sentences

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
ENDINGS = (".conllu", ".conllup")
_FIRST = re.compile(r"(1|1-\d+|0\.1)\t")
_NOT_A_WORD = re.compile(r"\d+[-.]\d+")  # a range of words that are written as one, a node without a word


def is_conllu(line: str, ending: str) -> bool:
    """Whether a file's first line that is no comment, or its ending, is that of CoNLL-U."""
    return ending in ENDINGS or (bool(_FIRST.match(line)) and line.count("\t") == len(COLUMNS) - 1)


def read_conllu(lines: Sequence[str], config: DataConfig, path: str, label: str | None) -> Sentences:
    """The words of sentences and one of their columns.

    Args:
      lines: of the file.
      config: its `text` is a name of COLUMNS, or the form is taken.
      path: of the file, for messages.
      label: a name of COLUMNS; `label`, the default of the config, is upos. None reads none.

    Raises:
      UserError: for a column that there is none, or a line that has not ten.
    """
    at_word = _column("text", config.text, "text", "form")
    at_tag = _column("label", label, "label", "upos") if label else -1
    found, begins = Sentences("line", files=[(path, len(lines))]), True
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            begins = begins or not line.strip()
            continue
        columns = line.rstrip(" \t").split("\t") if line.count("\t") >= len(COLUMNS) else line.split("\t")
        if len(columns) != len(COLUMNS):
            raise UserError(f"{path}: line {number} has {len(columns)} columns between tabs; CoNLL-U has {len(COLUMNS)}")
        if _NOT_A_WORD.fullmatch(columns[0]):
            continue
        word, tag = columns[at_word].strip(" "), columns[at_tag].strip() if label else ""
        if not word or (label and not tag):
            raise UserError(f"{path}: line {number} has no {'tag' if word else 'word'}")
        found.add(word, tag, number, begins or columns[0] == "1")
        begins = False
    return found


def _column(option: str, name: str, default: str, own: str) -> int:
    name = own if name == default else name
    if name.lower() not in COLUMNS:
        raise UserError(
            f'data.{option} is "{name}", but the columns of CoNLL-U are {", ".join(COLUMNS)}{nearest(name, COLUMNS)}'
        )
    return COLUMNS.index(name.lower())
