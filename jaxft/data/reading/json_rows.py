"""Reads json and jsonl files as Arrow tables, in chunks: one object per line, a list of objects, or columns.

Only the requested columns are checked: others may first occur in a late row, change their type, or be nested.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxft.core.errors import UserError, json_fault, one_line
from jaxft.core.utf8 import decode
from jaxft.data.reading.files import content, file_format, open_bytes

ROWS = 10_000  # rows per table
DEEP = 30  # levels of nested lists and objects
MAX_NAMES = 1_000  # column names collected for messages


@dataclass(frozen=True)
class Request:
    """The columns to read, and how.

    Attributes:
      columns: their names; a column that a row lacks is null there.
      lists: the values of a row are lists, so a json object whose values are flat lists is one row and not columns.
      kinds: str for columns of texts, list for columns of lists of texts; in other columns, numbers among texts become text.
      invalid_is_null: replace a value whose type differs from earlier values by null instead of raising an error.
    """

    columns: Sequence[str] = ()
    lists: bool = False
    kinds: Mapping[str, type] = field(default_factory=dict)
    invalid_is_null: bool = False


def json_tables(file: Path, request: Request, names: dict[str, None]) -> Iterator[Any]:
    """The rows of a file, which may be compressed, as Arrow tables.

    The names of the columns seen so far are added to `names`, in order; they are complete once all tables are read.

    Raises:
      UserError: naming the line or row that cannot be read.
    """
    import pyarrow as pa

    rows, start = json_rows(file, names, lists=request.lists), 0
    while chunk := list(itertools.islice(rows, ROWS)):
        arrays = {x: as_array([row.get(x) for row in chunk], x, request, file, start) for x in request.columns}
        start += len(chunk)
        yield pa.table(arrays)


def json_rows(file: Path, names: dict[str, None], *, lists: bool) -> Iterator[Mapping[str, Any]]:
    """The rows of a file as mappings; for the arguments see `json_tables` and `Request`."""
    count = 0
    for number, row in enumerate(_values(file, lists), 1):
        if not isinstance(row, Mapping):
            raise UserError(f"{file}: row {number} is {repr(row)[:60]}: must be an object such as {{...}}")
        if count < MAX_NAMES and (more := row.keys() - names.keys()):
            names |= dict.fromkeys(row)
            count += len(more)
        yield row


def _values(file: Path, lists: bool) -> Iterator[Any]:
    """The rows in whichever layout the file has, which its first line shows."""
    with open_bytes(file) as stream:
        lines = _nonblank_lines(stream, str(file))
        first = next(lines, None)
        if first is None:
            return
        try:
            row, second = json.loads(first[1]), next(lines, None)
        except (ValueError, RecursionError):
            row, second = None, None
        if isinstance(row, dict) and (second or file_format(file) == ".jsonl"):
            yield row
            for number, line in itertools.chain([second] if second else [], lines):
                yield _loads(line, f"{file}: cannot be read: line {number}:")
            return
    document = _loads(content(file).decode("utf-8-sig"), f"{file}: cannot be read:")
    yield from rows_of(document, str(file), lists=lists)


def rows_of(document: Any, where: str, *, lists: bool) -> Sequence[Any]:
    """The rows of a json document, which messages call `where`; `lists` is as in `Request`.

    The document is a list of rows; {"data": rows}; {"columns": names, "data": lists} (pandas' split); columns as lists, or
    as pandas writes them by default, {"0": ..., "1": ...}; or one row.
    """
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        raise UserError(f"{where}: cannot be read: holds {repr(document)[:60]} and no rows")
    data, names = document.get("data"), document.get("columns")
    if isinstance(data, list) and isinstance(names, list):
        return [dict(zip(names, row, strict=False)) if isinstance(row, list) else row for row in data]
    if isinstance(data, list) and (not data or isinstance(data[0], dict)):
        return data
    if isinstance(data, dict):
        return rows_of(data, where, lists=lists)
    values = list(document.values())
    are_lists = bool(values) and all(isinstance(x, list) for x in values)
    if values and all(isinstance(x, dict) for x in values) and len({tuple(x) for x in values}) == 1:
        values = [list(x.values()) for x in values]
    elif not are_lists or (lists and not any(isinstance(column[0], list) for column in values if column)):
        return [document]
    counts = {name: len(x) for name, x in zip(document, values, strict=True)}
    if len(set(counts.values())) > 1:
        raise UserError(f"{where}: the columns differ in their numbers of rows: {repr(counts)[:200]}")
    return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]


def as_array(values: Sequence[Any], column: str, request: Request, file: object, before: int) -> Any:
    """Converts the values of a column to an Arrow array.

    Texts and numbers together become text, unless `request.kinds` has the column: then numbers are invalid. But if a column
    for lists contains no list, it may be a column of words in which numbers are valid, unless invalid values become null.

    Messages name the `file`, and rows counted after the `before` rows that were read earlier.

    Raises:
      UserError: for a value of another kind (text, list, object) than the first, for text that is not valid Unicode, and for
        more than DEEP levels of lists and objects.
    """
    import pyarrow as pa

    rows = f"{file}: rows {before + 1} to {before + len(values)}"
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        texts = _texts(values, column, request, file, before)
        try:
            array = pa.array(texts)
        except (pa.ArrowException, OverflowError) as error:
            fault = one_line(error)[:120]
            raise UserError(f'{rows} hold values of different kinds in column "{column}": {fault}') from error
    kinds, levels = [array.type], 0
    while kinds := [kind.field(i).type for kind in kinds for i in range(kind.num_fields)]:
        levels += 1
        if levels > DEEP:  # Arrow cannot write such types
            raise UserError(f'{rows} hold lists or objects more than {DEEP} levels deep in column "{column}"')
    return array


def _texts(values: Sequence[Any], column: str, request: Request, file: object, before: int) -> list[Any]:
    """The values of one kind, with numbers as text; the first value decides if none is of the kind that is requested."""
    kinds = [_kind(x) for x in values]
    kind = request.kinds.get(column)
    if kind is list and list not in kinds and not request.invalid_is_null:
        kind = None
    expected = kind if kind and kind in kinds else next((x for x in kinds if x), str)
    texts: list[Any] = []
    for row, (value, value_kind) in enumerate(zip(values, kinds, strict=True), before + 1):
        number = kind is not None and not _is_of_texts(value)
        valid = value_kind in (None, expected) and not number and is_unicode(value)
        if not valid and not request.invalid_is_null:
            right = "text like other rows" if expected is str else f"a {expected.__name__} like other rows"
            if value_kind is expected:
                right = "text without lone surrogates" if not number else "text" if expected is str else "a list of texts"
            raise UserError(f'{file}: row {row} has {repr(value)[:60]} in column "{column}": must be {right}')
        texts.append(_as_text(value) if valid else None)
    return texts


def _nonblank_lines(stream: Any, where: str) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines that are not blank, without a byte order mark."""
    for number, line in enumerate(stream, 1):
        text = decode(line, number, where)
        text = text.removeprefix("\ufeff") if number == 1 else text
        if text.strip():
            yield number, text


def _loads(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} not valid JSON ({json_fault(error)[:200]})") from error


def _kind(value: Any) -> type | None:
    if value is None:
        return None
    return next((x for x in (list, dict) if isinstance(value, x)), str)


def _is_of_texts(value: Any) -> bool:
    return all(isinstance(x, str | None) for x in (value if isinstance(value, list) else [value]))


def _as_text(value: Any) -> Any:
    """Converts numbers and booleans to text as json writes them, also inside lists and objects."""
    if isinstance(value, list):
        return [_as_text(x) for x in value]
    if isinstance(value, dict):
        return {name: _as_text(x) for name, x in value.items()}
    return value if value is None or isinstance(value, str) else json.dumps(value)


def is_unicode(value: Any) -> bool:
    """Whether all texts of a value can be encoded as UTF-8: json can contain half a character, a lone surrogate."""
    try:
        (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True
