"""Running text: reads documents, tokenises their lines into one stream, and cuts it into examples."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.core.progress import in_steps
from jaxft.core.ragged import offsets_of, places_in_rows
from jaxft.data.cleaning.columns import clean_columns
from jaxft.data.reading import files
from jaxft.data.reading.columns import CHUNK, column_values
from jaxft.data.reading.row_numbers import row_names, select_rows
from jaxft.data.reading.sources import read_rows
from jaxft.data.tokens.cache import Arrays
from jaxft.data.tokens.spans import Frame, join_spans

DOCUMENT = "document"


@dataclass(frozen=True)
class Stream:
    """A corpus without special tokens.

    Attributes:
      ids: int32 [total].
      begins: bool [total], whether a token is the first of its word.
      lines: int64 [lines + 1], the index of each line's first token, and the total.
      documents: int64 [documents + 1], the index of each document's first line, and the number of lines.
    """

    ids: np.ndarray
    begins: np.ndarray
    lines: np.ndarray
    documents: np.ndarray


def read(config: DataConfig, split: str, *, line_documents: bool = False, by_line: bool = False) -> Any:
    """Reads a corpus as a `datasets.Dataset` with one document per row: a text, or a list of lines.

    In a txt file documents are separated by empty lines, unless `line_documents` makes every line one; in other files every
    row is a document. Texts are cleaned as `data.clean` says; `by_line` keeps the lines of a text apart.

    Raises:
      UserError: for an empty document (unless data.empty_texts drops them), or a corpus without text.
    """
    where = files.origin(config, split)
    rows = read_rows(config, split, needed=[config.text], kinds={config.text: str})
    if not config.dataset and all(files.file_format(file) == ".txt" for file in files.files_of(config, split)):
        rows = _grouped(rows, config.text, where, line_documents)
    rows = clean_columns(rows, [config.text], config, where, by_line=by_line)
    nonempty = np.ones(len(rows), bool)
    for i, value in enumerate(column_values(rows, config.text)):
        texts = [value] if isinstance(value, str) else value or []
        if not isinstance(texts, list) or not all(isinstance(line, str) for line in texts):
            raise UserError(
                f'{row_names(rows, where)(i)} has {value!r} in column "{config.text}": must be text, or a list of lines'
            )
        nonempty[i] = any(line.strip() for line in texts)
        if not nonempty[i] and config.empty_texts == "error":
            fault = f'{row_names(rows, where)(i)} is an empty document in column "{config.text}"'
            raise UserError(f"{fault} (data.empty_texts drop leaves such rows out)")
    if not nonempty.any():
        raise UserError(f"{where}: every document is empty")
    return rows if nonempty.all() else select_rows(rows, np.flatnonzero(nonempty))


def lines(rows: Any, column: str, *, by_line: bool, counts: list[int] | None = None) -> Iterator[str]:
    """The lines of all documents; a text is split at line breaks or is one line. Lines per document go into `counts`."""
    for start in in_steps("tokenising", len(rows), CHUNK):
        for text in rows[start : start + CHUNK][column]:
            document = text if isinstance(text, list) else text.splitlines() if by_line else [text]
            if counts is not None:
                counts.append(len(document))
            yield from document


def tokenise(rows: Any, column: str, tokenizer: Any, *, words: bool, by_line: bool) -> Stream:
    """Tokenises a corpus from `read` line by line, without special tokens.

    With `words` it finds the first token of each word; otherwise every token counts as a word. `by_line` is as in `lines`.
    """
    ids: list[np.ndarray] = [np.zeros(0, np.int32)]
    begins: list[np.ndarray] = [np.zeros(0, bool)]
    counts: list[int] = []
    all_lines = lines(rows, column, by_line=by_line, counts=counts)
    while chunk := list(itertools.islice(all_lines, CHUNK)):
        encoded = tokenizer(chunk, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)
        ids += [np.asarray(x, np.int32) for x in encoded["input_ids"]]
        if words:
            begins += [np.diff(np.asarray(x.word_ids, np.float64), prepend=-1) != 0 for x in encoded.encodings]
    flat = np.concatenate(ids)
    all_begins = np.concatenate(begins) if words else np.ones(len(flat), bool)
    return Stream(flat, all_begins, offsets_of([len(x) for x in ids[1:]]), offsets_of(counts))


def examples(stream: Stream, frame: Frame, max_length: int, *, join: bool) -> Arrays:
    """Cuts a corpus into examples of `max_length` tokens, special tokens included (see `join_spans`).

    The last example of a text may be shorter. With `join` all documents are one text, in which the last token of `frame`
    separates them; otherwise each document is cut separately, and DOCUMENT, int32 [N], is the number of each example's.
    """
    edges, capacity = stream.lines[stream.documents], max_length - frame.size
    if join:
        between = np.unique(edges[(edges > 0) & (edges < len(stream.ids))]) if frame.last else np.zeros(0, np.int64)
        ids = np.insert(stream.ids, between, frame.last[0]) if len(between) else stream.ids
        stream = Stream(ids, np.insert(stream.begins, between, True), stream.lines, stream.documents)
        edges = np.array([0, len(ids)])
    parts = -(-np.diff(edges) // capacity)
    start = np.repeat(edges[:-1], parts) + places_in_rows(parts) * capacity
    stop = np.minimum(start + capacity, np.repeat(edges[1:], parts))
    made = join_spans(stream.ids, stream.begins, np.stack([start, stop], axis=-1)[:, None], frame)
    return made if join else {**made, DOCUMENT: np.repeat(np.arange(len(parts), dtype=np.int32), parts)}


def _grouped(rows: Any, column: str, origin: str, line_documents: bool) -> Any:
    """Groups the lines of a txt file into documents."""
    import datasets
    import pyarrow as pa
    import pyarrow.compute as pc

    text = rows.with_format("arrow")[:].column(column).cast(pa.large_string()).combine_chunks()
    blank = pc.call_function("utf8_length", [pc.call_function("utf8_trim_whitespace", [text])]).to_numpy() == 0
    if blank.all():
        raise UserError(f"{origin}: every line is empty")
    document = np.arange(len(blank)) if line_documents else np.cumsum(blank)
    counts = np.unique(document[~blank], return_counts=True)[1]
    offsets = pa.array(np.cumsum([0, *counts]), pa.int32())
    table = pa.table({column: pa.ListArray.from_arrays(offsets, text.filter(pa.array(~blank)))})
    return datasets.Dataset(table, fingerprint=f"{rows._fingerprint}-{'lines' if line_documents else 'documents'}")
