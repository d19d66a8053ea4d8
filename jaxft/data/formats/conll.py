"""Text files of tagged sentences: columns (CoNLL, CoNLL-U), `word:tag` lines, and, for prediction, plain text."""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxft.config import DataConfig
from jaxft.core import distributed
from jaxft.core.errors import UserError, nearest
from jaxft.data.formats.conllu import ENDINGS, is_conllu, read_conllu
from jaxft.data.formats.sentences import Sentences
from jaxft.data.formats.split_text import split_text, unspaced
from jaxft.data.formats.tags import OUTSIDE, canonical, parse
from jaxft.data.reading import files

DOCUMENT = "-DOCSTART-"
INTENT = " <=> "
COLUMN_FILES = (".conll", ".conll03", ".conll2003", ".bio", ".iob", ".iob2", ".bioes", ".iobes", ".bilou", ".tsv")
_MOST = 0.9  # share of lines with as many columns, of numbers among what cannot be words
_LINE_OF_TEXT = 5  # characters of scripts without spaces that are more than a word


def read_text_file(config: DataConfig, file: Path, field: str, label: str | None) -> Sentences:
    """The sentences of a text file.

    Args:
      config: its `columns`, `text` and `label` choose columns.
      file: perhaps compressed.
      field: of the config, for messages.
      label: column of the tags; None reads none.

    Raises:
      UserError: naming the line of what is malformed; for plain text where tags are wanted.
    """
    path = str(files.existing_file(str(file), field))
    text = files.content(file).decode("utf-8-sig")
    lines = [line.removesuffix("\r") for line in text.split("\n" if "\n" in text else "\r")]
    filled = [line for line in lines if line.strip() and not line.startswith(DOCUMENT)]
    if filled and INTENT in filled[0] and (label or all(":" in x for x in _split(filled[0].rpartition(INTENT)[0]))):
        return _from_pairs(lines, path)
    # A line that begins with # is a word, "#", if it has as many columns as other lines, and otherwise a comment.
    first = next((line for line in filled if not line.startswith("#")), filled[0] if filled else "")
    told = not label and files.kind(file) not in (*COLUMN_FILES, *ENDINGS)
    if not config.columns and is_conllu(first, files.kind(file)):
        _say(f"{path}: read as CoNLL-U columns", told)
        return read_conllu(lines, config, path, label)
    plain = files.kind(file) not in COLUMN_FILES and not _are_columns(lines, config.columns)
    _say(f"{path}: read as {'plain text, a sentence a line' if plain else 'CoNLL columns'}", told)
    if plain and not label:
        return _from_plain(lines, config, path)
    found = _from_columns(lines, first, config, path, label)
    if plain and _may_be_plain(found, first):
        raise UserError(
            f"{path}: the lines are sentences, not a word and its tag each; {field} takes a word a line with its tag last, "
            "or rows with lists (data.columns names the columns of what is such a file)"
        )
    if not config.columns:
        _refuse_numbers(found, path)
    return found


def _are_columns(lines: Sequence[str], names: Sequence[str] | None) -> bool:
    """Whether a file without a telling name has a word a line.

    It does if it has as many columns as there are names, documents, tabs in every line, tags of entities with types at the
    end of the lines, or a single word in every line and blank lines between some.
    """
    filled = [line for line in lines if line.strip()]
    if any(line.startswith(DOCUMENT) for line in filled):
        return True
    filled = [line for line in filled if not line.startswith("#")] or filled
    columns = [_split(line) for line in filled]
    if not columns:
        return False
    count, alike = Counter(map(len, columns)).most_common(1)[0]
    if names and len(names) == count and alike >= _MOST * len(columns):
        return True
    if all("\t" in line for line in filled):  # a cell that holds a sentence is no tag
        return all(" " not in x[-1].strip() for x in columns)
    if count == 1:
        apart = any(not line.strip() for line in "\n".join(lines).strip().split("\n"))
        return alike == len(columns) and apart and 2 * sum(unspaced(x) >= _LINE_OF_TEXT for x in filled) <= len(filled)
    return alike >= _MOST * len(columns) and _are_typed([x[-1].strip() for x in columns], count)


def _are_typed(tags: Sequence[str], columns: int) -> bool:
    """Whether what ends the lines is tags of entities with types, beside O unless a line is a word and a tag only.

    An e-mail, Plan-B or the I-95 at the end of a sentence is no tag.
    """
    spelt = canonical(tags)
    parsed = [parse(spelt[tag]) for tag in tags]
    typed = any(x and x[1] for x in parsed)
    usual = columns == 2 and all(map(parse, tags))
    return typed and sum(x is not None for x in parsed) >= _MOST * len(tags) and (usual or OUTSIDE in spelt.values())


def _may_be_plain(found: Sentences, first: str) -> bool:
    """Whether what was read as columns between spaces looks like text: hardly any tag stands twice, or none is a word."""
    tags = [tag for sentence in found.tags for tag in sentence]
    many = 2 * len(set(tags)) > len(tags) or not any(any(map(str.isalpha, tag)) for tag in tags)
    return len(_split(first)) > 2 and "\t" not in first and many


def _say(line: str, told: bool) -> None:
    if told and distributed.is_main_process():
        print(line, file=sys.stderr)


def _from_plain(lines: Sequence[str], config: DataConfig, path: str) -> Sentences:
    """Every line as a sentence; what has no words is treated as a row without words."""
    found = Sentences("line", files=[(path, len(lines))])
    for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        bounds = split_text(line, config.split_words or "punctuation")
        if bounds:
            found.add_text(line, bounds, [], number)
        elif config.empty_texts == "null":
            found.add_odd([], number)
        elif config.empty_texts == "error":
            raise UserError(f"{path}: line {number} has no words (data.empty_texts drop leaves such lines out)")
    return found


def _from_columns(lines: Sequence[str], first: str, config: DataConfig, path: str, label: str | None) -> Sentences:
    names = config.columns or [str(i) for i in range(len(_split(first.rstrip(" \t"))))]
    if label and first and len(names) < 2:
        raise UserError(f"{path}: the lines have one column; a word and its tag are two")
    at_word, at_tag = (_column(config, "text", config.text), _column(config, "label", label)) if config.columns else (0, -1)
    found = Sentences("line", files=[(path, len(lines))])
    begins, document = True, 0
    for number, line in enumerate([*lines, DOCUMENT], 1):
        columns = _split(line, len(names))
        if not line.strip() or (line.startswith("#") and len(columns) != len(names)):
            begins = begins or not line.strip()
        elif not found.words and columns == config.columns:  # a header
            continue
        elif line.startswith(DOCUMENT):
            empty = document and (not found.places or found.places[-1][-1] < document)
            if empty and config.empty_texts == "error":
                raise UserError(
                    f"{path}: line {document} begins a document without words (data.empty_texts drop leaves it out)"
                )
            begins, document = True, number
        elif len(columns) != len(names):
            columns_of = f"data.columns names {len(names)}" if config.columns else f"the first word's line has {len(names)}"
            raise UserError(f"{path}: line {number} has {len(columns)} columns, but {columns_of}")
        elif not columns[at_word].strip(" ") or (label and not columns[at_tag].strip()):
            raise UserError(f"{path}: line {number} has no {'tag' if columns[at_word].strip(' ') else 'word'}")
        else:
            found.add(columns[at_word].strip(" "), columns[at_tag].strip(), number, begins)
            begins = False
    return found


def _split(line: str, count: int = 0) -> list[str]:
    """The columns of a line: between tabs where it has one, else between spaces; other white space is part of words.

    Empty columns at the end are dropped while a line has more than `count` columns. If splitting at tabs alone does not give
    `count` columns, but splitting at tabs and spaces does, both separate.
    """
    if "\t" not in line:
        return re.findall("[^ ]+", line)
    columns = line.split("\t")
    while len(columns) > max(count, 1) and not columns[-1].strip():
        columns.pop()
    mixed = re.findall("[^ \t]+", line)
    return mixed if count and len(columns) != count and len(mixed) == count else columns


def _column(config: DataConfig, option: str, name: str | None) -> int:
    columns = config.columns or []
    if name is None:
        return -1
    if name not in columns:
        raise UserError(f'data.{option} is "{name}", but data.columns names {", ".join(columns)}{nearest(name, columns)}')
    return columns.index(name)


def _refuse_numbers(found: Sentences, path: str) -> None:
    """Refuse a first column that numbers the words or sentences."""
    words = [word for sentence in found.words for word in sentence]
    if len(words) > 1 and sum(word.isdecimal() for word in words) >= _MOST * len(words):
        raise UserError(
            f"{path}: the first column holds numbers, not words; name all columns in data.columns, the word's in data.text"
        )


def _from_pairs(lines: Sequence[str], path: str) -> Sentences:
    found = Sentences("line", files=[(path, len(lines))])
    for number, line in enumerate(lines, 1):
        sentence = line.rpartition(INTENT)[0] or line
        for i, pair in enumerate(re.findall("[^ ]+", sentence)):
            word, colon, tag = pair.rpartition(":")
            if not colon or not tag:
                raise UserError(f'{path}: line {number} has "{pair}", which is not of the form word:tag')
            found.add(word, tag, number, new=i == 0)  # the word may be empty: SNIPS has such
    return found
