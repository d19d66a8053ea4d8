"""Reads rows of a text with its entities as character spans: doccano, Prodigy, Label Studio, Hugging Face's pipelines."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.formats.entities import are_spans, read_spans, tags_of
from jaxft.data.formats.sentences import Sentences, say_if
from jaxft.data.formats.split_text import split_text
from jaxft.data.reading import files
from jaxft.data.reading.columns import iter_rows
from jaxft.data.reading.delimited import parse_literal
from jaxft.data.reading.json_rows import is_unicode, json_rows
from jaxft.data.reading.row_numbers import locate, rows_per_file
from jaxft.data.reading.sources import read_rows

KNOWN = ("spans", "entities", "labels")  # columns of spans that are looked for if data.label is the default
_DEFAULT = "label"
Row = Mapping[str, Any]


def read_span_rows(config: DataConfig, split: str, label: str | None, where: str) -> Sentences | None:
    """Reads the sentences of rows with spans; None if the rows have no spans.

    Args:
      config, split: files or a hub data set; `config.text` is the column of the text, `config.split_words` how to split it.
      label: column of the spans; for the default `label`, also the columns in KNOWN, one for all rows. None reads none.

    Raises:
      UserError: naming the row of a malformed or overlapping span.
    """
    column = _span_column((row for _, _, row in _rows(config, split, label, where)), config, label)
    if column is None:
        return None
    sentences, how = Sentences("row"), config.split_words or "punctuation"
    left_out = cut = 0
    for number, (file, file_row, row) in enumerate(_rows(config, split, label, where), 1):
        if file_row == 1:
            sentences.files.append((file, 0))
        sentences.files[-1] = (file, file_row)
        where_row = f"{file}: row {file_row}"
        if label and (row.get("answer") in ("reject", "ignore") or (_is_task(row) and not _annotations(row))):
            left_out += 1
            continue
        text = _text(row, config, where_row)
        if not split_text(text, "spaces"):
            sentences.add_wordless(number, config.empty_texts, f"{where_row} has no words")
            continue
        spans = read_spans(_values(row, column, where_row), text, where_row) if label else []
        bounds, tags, cut_here = tags_of(text, spans, how)
        cut += cut_here
        sentences.add_text(text, bounds, tags if label else [], number)
    say_if(left_out, f"{where}: left out {left_out:,} rows that are rejected or not annotated")
    say_if(cut, f"{where}: {cut:,} words were cut because an entity begins or ends within them")
    return sentences


def _rows(config: DataConfig, split: str, label: str | None, where: str) -> Iterator[tuple[str, int, Row]]:
    """Yields (file, row number in that file from 1, row)."""
    paths = [] if config.dataset else files.files_of(config, split)
    if paths and all(file.is_file() and files.file_format(file) in (".json", ".jsonl") for file in paths):
        for file in paths:
            yield from ((str(file), i, row) for i, row in enumerate(json_rows(file, {}, lists=True), 1))
    elif label:
        rows = read_rows(replace(config, columns=None), split, needed=[config.text], wanted=_columns(label), lists=True)
        counts = rows_per_file(rows)
        yield from ((*locate(counts, number, where), row) for number, row in enumerate(iter_rows(rows), 1))


def _columns(label: str) -> tuple[str, ...]:
    return (label, *(name for name in KNOWN if label == _DEFAULT))


def _span_column(rows: Iterable[Row], config: DataConfig, label: str | None) -> str | None:
    """The first of `_columns` with spans in any row; else, if none contains anything, the first with empty lists. None for
    rows without spans; `label` for tasks of Label Studio."""
    empty: dict[str, None] = {}
    spans: set[str] = set()
    others = False
    for row in rows:
        text = row.get(config.text)
        if _is_task(row) and not isinstance(text, str | list):
            return label or _DEFAULT
        if not label or isinstance(text, list):
            return None
        for name in _columns(label) if isinstance(text, str) else ():
            value = _literal(row.get(name))
            if are_spans(value):
                spans.add(name)
            elif value == []:
                empty[name] = None
            elif value is not None:
                others = True
        if label in spans:
            return label
        if others and len(_columns(label)) == 1:
            return None  # no other column can contain spans
    return next((name for name in _columns(label or _DEFAULT) if name in spans), None if others else next(iter(empty), None))


def _is_task(row: Row) -> bool:
    """Whether a row is a task of Label Studio."""
    return isinstance(row.get("data"), Mapping)


def _annotations(row: Row) -> list[Mapping[str, Any]]:
    """The finished annotations of a Label Studio task."""
    paths = row.get("annotations", row.get("completions")) or []
    return [x for x in paths if isinstance(x, Mapping) and not x.get("was_cancelled") and isinstance(x.get("result"), list)]


def _text(row: Row, config: DataConfig, where_row: str) -> str:
    value = row.get(config.text)
    if _is_task(row) and value is None:
        texts = [x for x in row["data"].values() if isinstance(x, str)]
        value = row["data"].get(config.text, texts[0] if len(texts) == 1 else None)
        if value is None:
            raise UserError(
                f"{where_row}: data has {', '.join(map(str, row['data'])) or 'nothing'}; name the text in data.text"
            )
    if value is None or (config.empty_texts == "null" and not isinstance(value, str)):
        return ""
    if not isinstance(value, str):
        raise UserError(f'{where_row} has {repr(value)[:60]} in column "{config.text}": must be a text, beside its spans')
    if not is_unicode(value):
        raise UserError(f"{where_row}: the text has lone surrogates, which are no Unicode")
    return value


def _values(row: Row, column: str, where_row: str) -> list[Any]:
    if _is_task(row) and row.get(column) is None:
        results = [_of_task(x["result"]) for x in _annotations(row)]
        if any(x != results[0] for x in results):
            raise UserError(f"{where_row} has {len(results)} annotations that differ; keep one of them")
        return results[0]
    value = _literal(row.get(column))
    if value == [] or (value is None and ("answer" in row or column in row)):
        return []
    if value is None or not are_spans(value):
        raise UserError(
            f'{where_row} has {repr(value)[:60]} in column "{column}": must be a list of spans [start, end, label]'
        )
    return list(value)


def _of_task(result: list[Any]) -> list[Any]:
    values = [x["value"] for x in result if isinstance(x, Mapping) and isinstance(x.get("value"), Mapping)]
    return [{name: x.get(name) for name in ("start", "end", "labels", "text")} for x in values if "labels" in x]


def _literal(value: Any) -> Any:
    """Parses a list as csv files contain it; also converts the columns that `datasets` makes of a list of objects."""
    if isinstance(value, str) and value.lstrip().startswith(("[[", "[{", "[(", "[]")):
        return parse_literal(value.strip(), value)
    if isinstance(value, Mapping) and value and all(isinstance(x, list) for x in value.values()):
        return [dict(zip(value, x, strict=False)) for x in zip(*value.values(), strict=False)]
    return value
