"""Reads tagged sentences from files of any kind: chooses the reader, and reads rows with one sentence each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.errors import UserError, some
from jaxft.data.formats.clean_sentences import clean_sentences
from jaxft.data.formats.conll import read_text_file
from jaxft.data.formats.sentences import Sentences
from jaxft.data.formats.span_rows import read_span_rows
from jaxft.data.formats.split_text import split_text
from jaxft.data.formats.tags import parse
from jaxft.data.formats.word_per_row import is_word_per_row, read_word_rows, sentence_columns
from jaxft.data.reading import files
from jaxft.data.reading.class_labels import label_names
from jaxft.data.reading.columns import column_values
from jaxft.data.reading.delimited import csv_header, parse_literal
from jaxft.data.reading.row_numbers import RowName, row_names, rows_per_file
from jaxft.data.reading.sources import column_names, read_rows

TABLES = (".csv", ".json", ".jsonl", ".parquet", ".arrow")  # all other files are text, except .tsv with a header


def read_sentences(config: DataConfig, split: str, label: str | None) -> Any:
    """Reads a split as a `datasets.Dataset` of sentences, cleaned as `data.clean` says.

    A csv, json or parquet file or a hub data set has one row per sentence, in which `config.text` and `label` are lists, or
    text that is split at white space; or a text with character spans (`span_rows`); or it has one row per word
    (`word_per_row`). A text without tags is split as `config.split_words` says. Any other file is text: one word per line,
    columns separated by tabs or spaces, sentences by blank lines, documents by -DOCSTART-. The first column is the word and
    the last the tag, unless `config.columns` names them; CoNLL-U has fixed names. A text file whose first line contains
    ` <=> ` has one sentence per line, as `word:tag word:tag <=> intent`. If no tags are read (`label` is None), each line of
    plain text is a sentence.

    Returns:
      The columns of `Sentences.rows`.

    Raises:
      UserError: naming a malformed line or row.
    """
    where = files.origin(config, split)
    paths = [] if config.dataset else files.files_of(config, split)
    tables = [_is_table(file, config, label) for file in paths]
    if any(tables) and not all(tables):
        raise UserError(f"{where}: some of these files are tables and some are text: give files of one kind")
    how = "spaces" if label else config.split_words or "punctuation"
    if all(tables):
        sentences = read_span_rows(config, split, label, where)
        if sentences is None:
            sentences = _from_rows(config, split, label, where)
        else:
            how = config.split_words or "punctuation"
    else:
        sentences = Sentences("line")
        for file in paths:
            sentences.extend(read_text_file(config, file, f"data.{split}", label))
    clean_sentences(sentences, config, how, where)
    if not sentences.items:
        raise UserError(f"{where}: no sentences")
    return sentences.rows(labelled=label is not None)


def _is_table(file: Path, config: DataConfig, label: str | None) -> bool:
    if file.is_dir() or files.file_format(file) in TABLES:
        return True
    if files.file_format(file) != ".tsv" or config.columns:
        return False
    header = csv_header(file, config)
    return config.text in header and (label in header if label else parse(header[-1]) is None)


def _from_rows(config: DataConfig, split: str, label: str | None, where: str) -> Sentences:
    needed = [config.text, *([label] if label else [])]
    columns = sentence_columns(config, split, needed) if config.sentence_column else []
    # A model trained on one word per row may be asked for the tags of texts.
    if columns and (label or set(columns) <= set(column_names(config, split))):
        return read_word_rows(config, split, label, columns, where)
    # data.columns names the columns of text files; a table has its own names.
    rows = read_rows(replace(config, columns=None), split, needed=needed, lists=True, kinds={config.text: list})
    texts = list(column_values(rows, config.text))
    tags = list(column_values(rows, label)) if label else [None] * len(rows)
    if is_word_per_row(texts, tags if label else None):
        if columns := sentence_columns(config, split, needed):
            return read_word_rows(config, split, label, columns, where)
        if label:
            raise UserError(
                f'{where}: every row is one word ("{config.text}") with one tag ("{label}"), and no column is known to say '
                "which sentence it is of; name one in data.sentence_column (columns: "
                f"{some(column_names(config, split), 20)}), or give rows of lists"
            )
    names = label_names(rows.features[label]) if label else None
    sentences, where_row = Sentences("row", files=rows_per_file(rows)), row_names(rows, where)
    for i, (value, tag_values) in enumerate(zip(texts, tags, strict=True)):
        is_text = isinstance(value, str) and _parse_list(value) is None
        bounds = split_text(value, "spaces" if label else config.split_words or "punctuation") if is_text else []
        words = [value[a:b] for a, b in bounds]
        if label or not is_text:
            try:
                words = _items(value, (str,), where_row, i, config.text)
            except UserError:
                if config.empty_texts != "null":
                    raise
                words = []
        if not words:
            sentences.add_wordless(i + 1, config.empty_texts, f'{where_row(i)} has no words in column "{config.text}"')
            continue
        sentence_tags: list[str] = []
        if label:
            items = _items(tag_values, (str, int, float), where_row, i, label)
            if len(items) != len(words):
                raise UserError(f"{where_row(i)} has {len(words)} words but {len(items)} tags")
            sentence_tags = [_tag_name(x, names, where_row, i) for x in items]
        if is_text and [value[a:b] for a, b in bounds] == words:
            sentences.add_text(value, bounds, sentence_tags, i + 1)
        else:
            sentences.add_sentence(words, sentence_tags, i + 1)
    return sentences


def _items(value: Any, kinds: tuple[type, ...], where: RowName, row: int, column: str) -> list[Any]:
    if isinstance(value, str):
        listed = _parse_list(value)
        return value.split() if listed is None else listed
    if not isinstance(value, Sequence) or not all(isinstance(x, kinds) for x in value):
        wanted = "words" if int not in kinds else "tags"
        raise UserError(f'{where(row)} has {repr(value)[:60]} in column "{column}": must be a list of {wanted}, or text')
    return list(value)


def _parse_list(value: str) -> list[str] | None:
    """A list as csv files contain it, `['O', 'B-x']`; None for other text."""
    literal = parse_literal(value, None) if value.startswith("[") and value.endswith("]") else None
    return literal if isinstance(literal, list) and literal and all(isinstance(x, str) for x in literal) else None


def _tag_name(value: str | float, names: list[str] | None, where: RowName, row: int) -> str:
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    name = names[value] if names and isinstance(value, int) and 0 <= value < len(names) else str(value).strip()
    if not name:
        raise UserError(f"{where(row)} has an empty tag")
    return name
