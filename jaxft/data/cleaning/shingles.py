"""Character shingles of texts: sorted distinct numbers, in a file that is mapped into memory."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from jaxft.core.paths import cache_dir
from jaxft.core.ragged import offsets_of

SIZE = 3  # characters: the most that fit into an int64, so that equal numbers mean equal shingles
CHARACTERS = 1 << 20  # of the texts that are converted at a time
_BITS = 21  # of a code point


def shingles_of(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct shingles of each text: every SIZE characters that follow one another, or all of a shorter text.

    Returns:
      (the shingles of all texts, int64 [S], sorted in each text; where each text begins and the last ends, int64 [N + 1]).
    """
    lengths = np.array([len(text) for text in texts], np.int64)
    offsets = offsets_of(lengths)
    # A text shorter than a shingle is one shingle with zeros at the end, so code points are counted from 1.
    joined = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64) + 1
    padded = np.concatenate([joined, np.zeros(SIZE, np.int64)])
    row = np.repeat(np.arange(len(texts)), lengths)
    places = np.arange(len(joined))
    left = offsets[row + 1] - places  # characters from this one to the end of its text
    codes = np.zeros(len(joined), np.int64)
    for i in range(SIZE):
        codes = (codes << _BITS) | np.where(left > i, padded[i : i + len(joined)], 0)
    kept = (left >= SIZE) | (places == offsets[row])
    codes, row = codes[kept], row[kept]
    order = np.lexsort((codes, row))
    codes, row = codes[order], row[order]
    distinct = np.ones(len(codes), bool)
    distinct[1:] = (codes[1:] != codes[:-1]) | (row[1:] != row[:-1])
    return codes[distinct], offsets_of(np.bincount(row[distinct], minlength=len(texts)))


def in_chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of texts, each of about CHARACTERS characters."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text) + 1
        if size >= CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class Sets:
    """Sets of shingles in a file, read by number.

    Attributes:
      sizes: shingles of each set, int64 [N].
    """

    def __init__(self, file: IO[bytes], sizes: np.ndarray) -> None:
        """Maps a file of the shingles of all sets, int64, which may be closed then."""
        file.flush()
        self.sizes = sizes
        self._offsets = offsets_of(sizes)
        total = int(self._offsets[-1])
        self._codes = np.memmap(file, np.int64, "r", shape=(total,)) if total else np.zeros(0, np.int64)

    def shared(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """How many shingles two sets have in common: int64 [P] for the numbers of the sets, int64 [P] each."""
        return np.diff(self._matrix(left).multiply(self._matrix(right)).indptr)

    def _matrix(self, rows: np.ndarray) -> Any:
        from scipy.sparse import csr_array

        sizes = self.sizes[rows]
        offsets = offsets_of(sizes)
        codes = self._codes[np.arange(offsets[-1]) + np.repeat(self._offsets[rows] - offsets[:-1], sizes)]
        return csr_array((np.ones(len(codes), np.int8), codes, offsets), shape=(len(rows), 1 << 63 - 1))


def temporary_file() -> IO[bytes]:
    """A file without a name in jaxft's cache, or in the system's temporary folder if that cannot be written."""
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=cache_dir())
    except OSError:
        return tempfile.TemporaryFile()
