"""The formats in which predictions and embeddings are written: JSON lines, one JSON document, one numpy array."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from jaxft.evaluation.input_columns import merged


def write_lines(file: BinaryIO, rows: Iterable[Any]) -> None:
    """Write a JSON value per line."""
    file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)


def write_merged(file: BinaryIO, rows: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> None:
    """Write a JSON object per line: the columns of a row and the fields of its prediction."""
    write_lines(file, (merged(*row) for row in rows))


def write_document(file: BinaryIO, rows: Iterator[Any], document: Callable[[list[Any]], Any]) -> None:
    """Write all predictions as one JSON document in the task's format."""
    file.write(json.dumps(document(list(rows)), ensure_ascii=False, indent=1).encode())


def write_embeddings(file: BinaryIO, vectors: Iterable[np.ndarray]) -> None:
    """Write `{"embedding": [...]}` per line; null for a row without a text."""
    write_lines(file, ({"embedding": _numbers(vector)} for vector in vectors))


def write_array_header(file: BinaryIO, like: np.ndarray, count: int) -> None:
    """Begin an npy file of shape [count, D] for vectors with the shape and type of `like`."""
    about = {"descr": np.lib.format.dtype_to_descr(like.dtype), "fortran_order": False, "shape": (count, *like.shape)}
    np.lib.format.write_array_header_1_0(file, about)


def write_vectors(file: BinaryIO, vectors: Iterable[np.ndarray]) -> None:
    """Write vectors as the next rows of an npy file."""
    file.writelines(vector.tobytes() for vector in vectors)


def _numbers(vector: np.ndarray) -> list[float] | None:
    """An embedding rounded to the 9 digits that float32 can hold; None for a row without a text."""
    return None if vector[0] != vector[0] else [float(f"{x:.9g}") for x in vector]
