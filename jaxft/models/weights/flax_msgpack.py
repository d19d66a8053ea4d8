"""flax_model.msgpack: one pass over the file finds the offsets of its tensors, and each tensor is read on demand.

msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md) puts a kind and a length before every value, so the pass
reads only a few bytes per tensor; the msgpack library would read everything. Flax's part of the format is defined in
flax.serialization.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxft.core.errors import UserError, one_line
from jaxft.core.tree import flatten, unflatten
from jaxft.models.weights import StoredTensor

_NDARRAY, _COMPLEX, _SCALAR = 1, 2, 3  # Flax's extensions
_CHUNKED = "__msgpack_chunked_array__"  # Flax's key of a tensor in several chunks, each below msgpack's limit of 2 GiB


def _headers() -> dict[int, tuple[str, Any]]:
    """First byte of a value -> (kind, its length or the number itself, or the struct format of either)."""
    headers: dict[int, tuple[str, Any]] = {0xC0: ("number", None), 0xC2: ("number", False), 0xC3: ("number", True)}
    headers |= {byte: ("number", byte) for byte in range(0x80)} | {byte: ("number", byte - 256) for byte in range(0xE0, 256)}
    for kind, start, stop in (("map", 0x80, 0x90), ("array", 0x90, 0xA0), ("text", 0xA0, 0xC0)):
        headers |= {byte: (kind, byte - start) for byte in range(start, stop)}
    headers |= {0xD4 + i: ("extension", 2**i) for i in range(5)}
    sized = [("bin", 0xC4, "BHI"), ("extension", 0xC7, "BHI"), ("number", 0xCA, "fdBHIQbhiq"), ("text", 0xD9, "BHI")]
    sized += [("array", 0xDC, "HI"), ("map", 0xDE, "HI")]
    for kind, start, codes in sized:
        headers |= {start + i: (kind, f">{code}") for i, code in enumerate(codes)}
    return headers


_HEADERS = _headers()


class _Bytes(NamedTuple):
    """A range of bytes in the file."""

    start: int
    length: int


class _Tensor(NamedTuple):
    """The location of a tensor in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: tuple[_Bytes, ...]


def open_msgpack(path: Path) -> dict[str, StoredTensor]:
    """Opens a file without reading its tensors: {path joined by dots: tensor}.

    Raises:
      UserError: if the file is damaged: every tensor must be inside the file and have the length of its shape and dtype.
    """
    with _errors(path), path.open("rb") as file:
        size = path.stat().st_size
        tree = _Reader(file, size).value()
        if not isinstance(tree, dict):
            raise ValueError("no tree of tensors")
        if file.tell() != size:
            raise ValueError(f"{size - file.tell()} bytes too many")
        return {".".join(keys): _stored(path, leaf) for keys, leaf in flatten(tree).items()}


def write_msgpack(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes the file as transformers 4's Flax classes expect it, one tensor at a time."""
    with path.open("wb") as file:
        _write(unflatten({tuple(name.split(".")): x for name, x in tensors.items()}), file)


def _write(value: Any, file: BinaryIO) -> None:
    from flax import serialization

    if not isinstance(value, dict):
        file.write(serialization.msgpack_serialize(value))
        return
    size = len(value)
    file.write(bytes([0x80 | size]) if size < 16 else b"\xde" + struct.pack(">H", size))
    for key in sorted(value):  # as in Flax
        _write(key, file)
        _write(value[key], file)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise UserError(f"{path}: not a complete Flax msgpack file ({one_line(error)[:120]}); fetch it again") from error


def _stored(path: Path, leaf: Any) -> StoredTensor:
    if isinstance(leaf, _Tensor):
        return StoredTensor(leaf.shape, leaf.dtype, partial(_read, path, leaf))
    array = np.asarray(leaf)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"a leaf is {type(leaf).__name__}")
    return StoredTensor(array.shape, array.dtype, lambda: array)


def _read(path: Path, tensor: _Tensor) -> np.ndarray:
    array = np.empty(tensor.shape, tensor.dtype)
    buffer = array.reshape(-1).view(np.uint8).data
    with _errors(path), path.open("rb") as file:
        for piece in tensor.pieces:
            file.seek(piece.start)
            if file.readinto(buffer[: piece.length]) != piece.length:
                raise ValueError("it has changed while it was read")
            buffer = buffer[piece.length :]
    return array


class _Reader:
    """Reads the structure of a file in one pass, value by value."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def value(self) -> Any:
        """The next value: a dict, list, text or number, `_Bytes`, or `_Tensor`."""
        kind, content = self.header()
        if kind == "map":
            return self.map(content)
        if kind == "array":
            return [self.value() for _ in range(content)]
        if kind == "text":
            return self.take(content).decode()
        if kind == "bin":
            return self.skip(content)
        return self.extension(content) if kind == "extension" else content

    def header(self) -> tuple[str, Any]:
        """The kind of the next value, and its length or the number itself."""
        kind, content = _HEADERS[self.take(1)[0]]
        if not isinstance(content, str):
            return kind, content
        return kind, struct.unpack(content, self.take(struct.calcsize(content)))[0]

    def map(self, count: int) -> Any:
        values: dict[str, Any] = {}
        for _ in range(count):
            key = self.value()
            if not isinstance(key, str) or key in values:
                raise ValueError(f"{key!r} is named twice" if isinstance(key, str) else "a name is not text")
            values[key] = self.value()
        return _join_chunks(values) if _CHUNKED in values else values

    def extension(self, length: int) -> Any:
        code, stop = self.take(1)[0], self.file.tell() + length
        content = self.value()
        if self.file.tell() != stop:
            raise ValueError("a tensor is longer than its bytes")
        if code == _COMPLEX:
            return complex(*content)
        if code not in (_NDARRAY, _SCALAR):
            raise ValueError(f"an extension of type {code}")
        shape, name, data = content
        if not isinstance(data, _Bytes):
            raise ValueError("a tensor without bytes")
        return _tensor(shape, _dtype(name), (data,))

    def take(self, length: int) -> bytes:
        self.file.seek(self.skip(length).start)
        return self.file.read(length)

    def skip(self, length: int) -> _Bytes:
        start = self.file.tell()
        if start + length > self.size:
            raise ValueError(f"ends {start + length - self.size} bytes too early")
        self.file.seek(start + length)
        return _Bytes(start, length)


def _join_chunks(values: dict[str, Any]) -> _Tensor:
    """Joins a tensor that Flax has written in chunks."""
    shape, chunks = ([values[key][str(i)] for i in range(len(values[key]))] for key in ("shape", "chunks"))
    if not chunks or not all(isinstance(x, _Tensor) and x.dtype == chunks[0].dtype for x in chunks):
        raise ValueError("a tensor in pieces that do not fit")
    return _tensor(shape, chunks[0].dtype, tuple(piece for x in chunks for piece in x.pieces))


def _tensor(shape: Any, dtype: np.dtype, pieces: tuple[_Bytes, ...]) -> _Tensor:
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"a tensor of shape {shape}")
    length = sum(piece.length for piece in pieces)
    if math.prod(shape) * dtype.itemsize != length:
        raise ValueError(f"a tensor of shape {shape} and type {dtype} in {length} bytes")
    return _Tensor(tuple(shape), dtype, pieces)


def _dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or not name.isidentifier():  # numpy would also parse commas and numbers
        raise ValueError(f"type {name!r}")
    dtype = np.dtype(jnp.dtype(name))
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"type {name!r}")
    return dtype
