"""Running text: documents, their lines as one stream of token ids, and examples that hold every token of it."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.core.progress import in_steps
from jaxft.core.ragged import places_in_rows
from jaxft.data.reading import files
from jaxft.data.reading.columns import CHUNK, per_row
from jaxft.data.reading.row_numbers import row_names, select_rows
from jaxft.data.reading.sources import read_rows
from jaxft.data.tokens.cache import Arrays
from jaxft.data.tokens.spans import Frame, assemble


@dataclass(frozen=True)
class Stream:
    """A corpus without special tokens.

    Attributes:
      ids: int32 [total].
      begins: bool [total], whether a token is the first piece of a word.
      lines: int64 [lines + 1], where lines begin among the tokens.
      documents: int64 [documents + 1], where documents begin among the lines.
    """

    ids: np.ndarray
    begins: np.ndarray
    lines: np.ndarray
    documents: np.ndarray


def read(config: DataConfig, split: str, *, alone: bool = False) -> Any:
    """A corpus as a `datasets.Dataset`, a document a row: a text, or a list of lines.

    In a txt file empty lines stand between documents; elsewhere a document is a row.

    Args:
      config: whose `text` names the column.
      split: train, validation or test.
      alone: every line of a txt file is a document.

    Raises:
      UserError: for an empty document (unless they are to be dropped), or a corpus without text.
    """
    where = files.origin(config, split)
    rows = read_rows(config, split, needed=[config.text], kinds={config.text: str})
    if not config.dataset and all(files.kind(file) == ".txt" for file in files.files_of(config, split)):
        return _grouped(rows, config.text, where, alone)
    keep = np.ones(len(rows), bool)
    for i, value in enumerate(per_row(rows, config.text, lambda x: x)):
        found = [value] if isinstance(value, str) else value or []
        if not isinstance(found, list) or not all(isinstance(line, str) for line in found):
            raise UserError(
                f'{row_names(rows, where)(i)} has {value!r} in column "{config.text}": must be text, or a list of lines'
            )
        keep[i] = any(line.strip() for line in found)
        if not keep[i] and config.empty_texts == "error":
            raise UserError(
                f'{row_names(rows, where)(i)} is an empty document in column "{config.text}" (data.empty_texts drop leaves '
                "such rows out)"
            )
    if not keep.any():
        raise UserError(f"{where}: every document is empty")
    return rows if keep.all() else select_rows(rows, np.flatnonzero(keep))


def lines(rows: Any, column: str, *, by_line: bool, counts: list[int] | None = None) -> Iterator[str]:
    """The lines of all documents; texts are cut at line breaks or are one line. `counts` gets how many each has."""
    for start in in_steps("tokenising", len(rows), CHUNK):
        for text in rows[start : start + CHUNK][column]:
            found = text if isinstance(text, list) else text.splitlines() if by_line else [text]
            if counts is not None:
                counts.append(len(found))
            yield from found


def tokenise(rows: Any, column: str, tokenizer: Any, *, words: bool, by_line: bool) -> Stream:
    """The tokens of a corpus, line by line.

    Args:
      rows, column: from `read`.
      tokenizer: adds no special tokens here.
      words: look for words; otherwise every token is one.
      by_line: cut texts at line breaks (a list of lines is what it is).
    """
    ids: list[np.ndarray] = [np.zeros(0, np.int32)]
    begins: list[np.ndarray] = [np.zeros(0, bool)]
    counts: list[int] = []
    each = lines(rows, column, by_line=by_line, counts=counts)
    while chunk := list(itertools.islice(each, CHUNK)):
        encoded = tokenizer(chunk, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)
        ids += [np.asarray(x, np.int32) for x in encoded["input_ids"]]
        if words:
            begins += [np.diff(np.asarray(x.word_ids, np.float64), prepend=-1) != 0 for x in encoded.encodings]
    flat = np.concatenate(ids)
    return Stream(
        flat,
        np.concatenate(begins) if words else np.ones(len(flat), bool),
        np.cumsum([0, *map(len, ids[1:])]),
        np.cumsum([0, *counts]),
    )


def examples(stream: Stream, frame: Frame, max_length: int, *, join: bool) -> Arrays:
    """Every token of a corpus in examples of `max_length` (see `assemble`); the last of a text may be shorter.

    Args:
      stream: the corpus.
      frame: special tokens around one text; its last token also stands between documents that are joined.
      max_length: special tokens included.
      join: make one text of all documents, so that only the last example is short; otherwise each is cut on its own.
    """
    edges, room = stream.lines[stream.documents], max_length - frame.size
    if join:
        between = np.unique(edges[(edges > 0) & (edges < len(stream.ids))]) if frame.last else np.zeros(0, np.int64)
        ids = np.insert(stream.ids, between, frame.last[0]) if len(between) else stream.ids
        stream = Stream(ids, np.insert(stream.begins, between, True), stream.lines, stream.documents)
        edges = np.array([0, len(ids)])
    parts = -(-np.diff(edges) // room)
    number = places_in_rows(parts)
    start = np.repeat(edges[:-1], parts) + number * room
    stop = np.minimum(start + room, np.repeat(edges[1:], parts))
    return assemble(stream.ids, stream.begins, np.stack([start, stop], axis=-1)[:, None], frame)


def _grouped(rows: Any, column: str, origin: str, alone: bool) -> Any:
    """Lines of a txt file as documents of lines."""
    import datasets
    import pyarrow as pa
    import pyarrow.compute as pc

    text = rows.with_format("arrow")[:].column(column).cast(pa.large_string()).combine_chunks()
    blank = pc.call_function("utf8_length", [pc.call_function("utf8_trim_whitespace", [text])]).to_numpy() == 0
    if blank.all():
        raise UserError(f"{origin}: every line is empty")
    document = np.arange(len(blank)) if alone else np.cumsum(blank)
    counts = np.unique(document[~blank], return_counts=True)[1]
    offsets = pa.array(np.cumsum([0, *counts]), pa.int32())
    table = pa.table({column: pa.ListArray.from_arrays(offsets, text.filter(pa.array(~blank)))})
    return datasets.Dataset(table, fingerprint=f"{rows._fingerprint}-{'lines' if alone else 'documents'}")
