"""Reads text files of tagged sentences: columns (CoNLL, CoNLL-U), `word:tag` lines, and, for prediction, plain text."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxft.config import DataConfig
from jaxft.core.errors import UserError, nearest
from jaxft.data.formats.sentences import Sentences, say_if
from jaxft.data.formats.split_text import split_text, unspaced
from jaxft.data.formats.tags import OUTSIDE, canonical, parse
from jaxft.data.reading import files

_DOCUMENT = "-DOCSTART-"
_INTENT = " <=> "  # between the tagged words and the intent of a line
_COLUMN_FILES = (".conll", ".conll03", ".conll2003", ".bio", ".iob", ".iob2", ".bioes", ".iobes", ".bilou", ".tsv")
_CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_CONLLU_FILES = (".conllu", ".conllup")
_CONLLU_FIRST = re.compile(r"(1|1-\d+|0\.1)\t")
_NOT_A_WORD = re.compile(r"\d+[-.]\d+")  # a multiword token such as 1-2, or an empty node such as 1.1
_MOST = 0.9  # share of lines with the same number of columns, or of numbers in a column that is not the words'
_LINE_OF_TEXT = 5  # this many characters of scripts without spaces are more than a word


def read_text_file(config: DataConfig, file: Path, field: str, label: str | None) -> Sentences:
    """Reads the sentences of a text file, which `field` of the config names and which may be compressed.

    `config.columns`, `config.text` and `label`, the column of the tags, choose columns; without `label` no tags are read.

    Raises:
      UserError: naming a malformed line; for plain text if tags are to be read.
    """
    path = str(files.existing_file(str(file), field))
    text = files.content(file).decode("utf-8-sig")
    lines = [line.removesuffix("\r") for line in text.split("\n" if "\n" in text else "\r")]
    filled = [line for line in lines if line.strip() and not line.startswith(_DOCUMENT)]
    if filled and _INTENT in filled[0] and (label or all(":" in x for x in _split(filled[0].rpartition(_INTENT)[0]))):
        return _from_pairs(lines, path)
    # A line that begins with # holds the word "#" if it has as many columns as other lines; otherwise it is a comment.
    first = next((line for line in filled if not line.startswith("#")), filled[0] if filled else "")
    suffix = files.file_format(file)
    report = not label and suffix not in (*_COLUMN_FILES, *_CONLLU_FILES)
    is_conllu = suffix in _CONLLU_FILES or (_CONLLU_FIRST.match(first) and first.count("\t") == len(_CONLLU) - 1)
    if is_conllu and not config.columns:
        say_if(report, f"{path}: read as CoNLL-U columns")
        return _from_conllu(lines, config, path, label)
    plain = suffix not in _COLUMN_FILES and not _are_columns(lines, config.columns)
    say_if(report, f"{path}: read as {'plain text, one sentence per line' if plain else 'CoNLL columns'}")
    if plain and not label:
        return _from_plain(lines, config, path)
    sentences = _from_columns(lines, first, config, path, label)
    if plain and _may_be_plain(sentences, first):
        raise UserError(
            f"{path}: the lines are sentences, not a word and its tag each; {field} takes one word per line with its tag "
            "last, or rows with lists (if the file is of this kind, name its columns in data.columns)"
        )
    words = [word for sentence in sentences.items for word in sentence.words]
    if not config.columns and len(words) > 1 and sum(map(str.isdecimal, words)) >= _MOST * len(words):
        raise UserError(
            f"{path}: the first column holds numbers, not words; name all columns in data.columns, the word's in data.text"
        )
    return sentences


def _are_columns(lines: Sequence[str], names: Sequence[str] | None) -> bool:
    """Whether a file whose suffix does not tell has one word per line: it has as many columns as there are names, document
    lines, tabs in every line, typed entity tags at the ends of lines, or single words with blank lines between some of them.
    """
    filled = [line for line in lines if line.strip()]
    if any(line.startswith(_DOCUMENT) for line in filled):
        return True
    filled = [line for line in filled if not line.startswith("#")] or filled
    columns = [_split(line) for line in filled]
    if not columns:
        return False
    count, frequency = Counter(map(len, columns)).most_common(1)[0]
    regular = frequency >= _MOST * len(columns)
    if names and len(names) == count and regular:
        return True
    if all("\t" in line for line in filled):  # a cell with spaces holds a sentence, not a tag
        return all(" " not in x[-1].strip() for x in columns)
    if count == 1:
        has_blank_lines = any(not line.strip() for line in "\n".join(lines).strip().split("\n"))
        lines_of_text = sum(unspaced(x) >= _LINE_OF_TEXT for x in filled)
        return frequency == len(columns) and has_blank_lines and 2 * lines_of_text <= len(filled)
    return regular and _are_typed([x[-1].strip() for x in columns], count)


def _are_typed(tags: Sequence[str], columns: int) -> bool:
    """Whether lines end in typed entity tags, some of them O unless all lines are a word and a tag: an "e-mail", "Plan-B" or
    "I-95" at the end of a sentence is not a tag."""
    canonical_tags = canonical(tags)
    parsed = [parse(canonical_tags[tag]) for tag in tags]
    typed = any(x and x[1] for x in parsed)
    word_and_tag = columns == 2 and all(map(parse, tags))
    has_outside = OUTSIDE in canonical_tags.values()
    return typed and sum(x is not None for x in parsed) >= _MOST * len(tags) and (word_and_tag or has_outside)


def _may_be_plain(sentences: Sentences, first: str) -> bool:
    """Whether columns separated by spaces look like plain text: most tags occur once, or no tag contains a letter."""
    tags = [tag for sentence in sentences.items for tag in sentence.tags]
    tags_unlike = 2 * len(set(tags)) > len(tags) or not any(any(map(str.isalpha, tag)) for tag in tags)
    return len(_split(first)) > 2 and "\t" not in first and tags_unlike


def _from_plain(lines: Sequence[str], config: DataConfig, path: str) -> Sentences:
    """Reads every line as a sentence; a line without words is treated as a row without words."""
    sentences = Sentences("line", files=[(path, len(lines))])
    for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        bounds = split_text(line, config.split_words or "punctuation")
        if bounds:
            sentences.add_text(line, bounds, [], number)
        else:
            sentences.add_wordless(number, config.empty_texts, f"{path}: line {number} has no words")
    return sentences


def _from_columns(lines: Sequence[str], first: str, config: DataConfig, path: str, label: str | None) -> Sentences:
    names = config.columns or [str(i) for i in range(len(_split(first.rstrip(" \t"))))]
    if label and first and len(names) < 2:
        raise UserError(f"{path}: the lines have one column; a word and its tag are two")
    at_word = _column(config.columns, "text", config.text) if config.columns else 0
    at_tag = _column(config.columns, "label", label) if config.columns and label else -1
    sentences = Sentences("line", files=[(path, len(lines))])
    new_sentence, document = True, 0
    for number, line in enumerate([*lines, _DOCUMENT], 1):
        columns = _split(line, len(names))
        if not line.strip() or (line.startswith("#") and len(columns) != len(names)):
            new_sentence = new_sentence or not line.strip()
        elif not sentences.items and columns == config.columns:  # a header
            continue
        elif line.startswith(_DOCUMENT):
            no_words = document and (not sentences.items or sentences.items[-1].numbers[-1] < document)
            if no_words and config.empty_texts == "error":
                raise UserError(
                    f"{path}: line {document} begins a document without words (data.empty_texts drop leaves it out)"
                )
            new_sentence, document = True, number
        elif len(columns) != len(names):
            columns_of = f"data.columns names {len(names)}" if config.columns else f"the first word's line has {len(names)}"
            raise UserError(f"{path}: line {number} has {len(columns)} columns, but {columns_of}")
        elif not columns[at_word].strip(" ") or (label and not columns[at_tag].strip()):
            raise UserError(f"{path}: line {number} has no {'tag' if columns[at_word].strip(' ') else 'word'}")
        else:
            sentences.add(columns[at_word].strip(" "), columns[at_tag].strip(), number, new_sentence)
            new_sentence = False
    return sentences


def _split(line: str, count: int = 0) -> list[str]:
    """The columns of a line, separated by tabs if it has any, else by spaces; other white space is part of words.

    Empty columns at the end are dropped while a line has more than `count` columns. If splitting at tabs does not give
    `count` columns, but splitting at tabs and spaces does, both are separators.
    """
    if "\t" not in line:
        return re.findall("[^ ]+", line)
    columns = line.split("\t")
    while len(columns) > max(count, 1) and not columns[-1].strip():
        columns.pop()
    mixed = re.findall("[^ \t]+", line)
    return mixed if count and len(columns) != count and len(mixed) == count else columns


def _column(columns: Sequence[str], option: str, name: str) -> int:
    if name not in columns:
        raise UserError(f'data.{option} is "{name}", but data.columns names {", ".join(columns)}{nearest(name, columns)}')
    return columns.index(name)


def _from_conllu(lines: Sequence[str], config: DataConfig, path: str, label: str | None) -> Sentences:
    """Reads CoNLL-U, the format of Universal Dependencies: ten columns between tabs, comments, ranges and empty nodes.

    `data.text` names a column of _CONLLU, by default form, and so does `label`, by default upos.
    """
    at_word = _conllu_column("text", config.text, "text", "form")
    at_tag = _conllu_column("label", label, "label", "upos") if label else -1
    sentences, new_sentence = Sentences("line", files=[(path, len(lines))]), True
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            new_sentence = new_sentence or not line.strip()
            continue
        columns = line.rstrip(" \t").split("\t") if line.count("\t") >= len(_CONLLU) else line.split("\t")
        if len(columns) != len(_CONLLU):
            raise UserError(f"{path}: line {number} has {len(columns)} columns between tabs; CoNLL-U has {len(_CONLLU)}")
        if _NOT_A_WORD.fullmatch(columns[0]):
            continue
        word, tag = columns[at_word].strip(" "), columns[at_tag].strip() if label else ""
        if not word or (label and not tag):
            raise UserError(f"{path}: line {number} has no {'tag' if word else 'word'}")
        sentences.add(word, tag, number, new_sentence or columns[0] == "1")
        new_sentence = False
    return sentences


def _conllu_column(option: str, name: str, default: str, conllu_default: str) -> int:
    name = conllu_default if name == default else name
    if name.lower() not in _CONLLU:
        raise UserError(
            f'data.{option} is "{name}", but the columns of CoNLL-U are {", ".join(_CONLLU)}{nearest(name, _CONLLU)}'
        )
    return _CONLLU.index(name.lower())


def _from_pairs(lines: Sequence[str], path: str) -> Sentences:
    sentences = Sentences("line", files=[(path, len(lines))])
    for number, line in enumerate(lines, 1):
        sentence = line.rpartition(_INTENT)[0] or line
        for i, pair in enumerate(re.findall("[^ ]+", sentence)):
            word, colon, tag = pair.rpartition(":")
            if not colon or not tag:
                raise UserError(f'{path}: line {number} has "{pair}", which is not of the form word:tag')
            sentences.add(word, tag, number, new=i == 0)  # the word may be empty, as in SNIPS
    return sentences
