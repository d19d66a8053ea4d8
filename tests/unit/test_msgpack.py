"""flax_model.msgpack: tensors are read as Flax reads them, one by one; damaged files are refused when they are opened."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from flax import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxft.core.errors import UserError
from jaxft.core.tree import flatten, unflatten
from jaxft.models.weights.flax_msgpack import open_msgpack, write_msgpack

DTYPES = ["float32", "float16", "float64", "int8", "int64", "uint16", "bool", "complex64", "bfloat16"]
NAMES = st.text("abcdefgh", min_size=1, max_size=40)  # one byte of length from 32 on


@st.composite
def tensors(draw) -> np.ndarray:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    values = np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape)
    return values.astype(np.dtype(draw(st.sampled_from(DTYPES))))


LEAVES = st.one_of(tensors(), st.builds(np.float32, st.floats(-9, 9)), st.complex_numbers(max_magnitude=9))
TREES = st.dictionaries(NAMES, st.one_of(LEAVES, st.dictionaries(NAMES, LEAVES, max_size=3)), max_size=20)


def same(found, expected) -> bool:
    return found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()


def flat(tree: dict) -> dict[str, np.ndarray]:
    return {".".join(path): np.asarray(leaf) for path, leaf in flatten(tree).items()}


def read(path: Path) -> dict[str, np.ndarray]:
    found = {}
    for name, tensor in open_msgpack(path).items():
        found[name] = tensor.read()
        assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype)
    return found


def equal(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(same(found[name], x) for name, x in expected.items())


@pytest.fixture
def chunks(monkeypatch):
    """Flax splits tensors of more than 64 bytes, as it normally splits those of more than 1 GiB."""
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES)
def test_any_tree_is_read_as_flax_wrote_it(tree, tmp_path, chunks):
    file = tmp_path / "flax_model.msgpack"
    file.write_bytes(serialization.msgpack_serialize(tree))
    assert equal(read(file), flat(tree))


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.dictionaries(st.lists(NAMES, min_size=3, max_size=3).map(tuple), tensors(), max_size=20))
def test_files_are_those_that_flax_writes(tree, tmp_path, chunks):
    write_msgpack({".".join(path): x for path, x in tree.items()}, tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == serialization.msgpack_serialize(unflatten(tree))


def whole_file() -> bytes:
    rng = np.random.default_rng(0)
    layers = {str(i): np.full(2, i, "f4") for i in range(17)}
    words = rng.normal(size=(10, 4)).astype(ml_dtypes.bfloat16)
    return serialization.msgpack_serialize({"encoder": {"layer": layers}, "words": words, "scale": np.float32(3), "z": 1j})


def test_a_file_that_ends_too_early_is_refused(tmp_path, chunks):
    """At opening, wherever it ends, also within the bytes of a tensor."""
    content, file = whole_file(), tmp_path / "flax_model.msgpack"
    file.write_bytes(content)
    assert len(open_msgpack(file)) == 17 + 3
    for end in range(0, len(content)):
        file.write_bytes(content[:end])
        with pytest.raises(UserError, match="not a complete Flax msgpack file"):
            open_msgpack(file)
    file.write_bytes(content + b"\xc0")
    with pytest.raises(UserError, match="1 bytes too many"):
        open_msgpack(file)


def test_a_changed_byte_is_refused_or_read_as_flax_reads_it(tmp_path, chunks):
    """A changed byte may be in a value or a name; then Flax reads the same."""
    content, file = bytearray(whole_file()), tmp_path / "flax_model.msgpack"
    refused = 0
    for position in range(len(content)):
        for mask in (0xFF, 0x01):
            torn = content.copy()
            torn[position] ^= mask
            file.write_bytes(torn)
            try:
                found = read(file)
            except UserError:
                refused += 1
            else:
                assert equal(found, flat(serialization.msgpack_restore(bytes(torn)))), position
    assert refused > len(content) / 2


@pytest.mark.parametrize(
    ("content", "message"),
    {
        "no map": (serialization.msgpack_serialize(np.zeros(3)), "no tree of tensors"),
        "twice": (b"\x82" + b"\xa1a\x01" * 2, "'a' is named twice"),
        "no name": (b"\x81\x01\x01", "a name is not text"),
        "text": (b"\x81\xa1a\xa1b", "a leaf is str"),
        "nothing": (b"\x81\xa1a\xc0", "a leaf is NoneType"),
        "unknown extension": (b"\x81\xa1a\xd4\x09\x00", "an extension of type 9"),
        "another length": (b"\x81\xa1a\xc7\x0f\x01\x93\x91\x02\xa7float32\xc4\x02ab", "shape [2] and type float32 in 2"),
        "pickled": (b"\x81\xa1a\xc7\x0e\x01\x93\x91\x01\xa6object\xc4\x02ab", "type 'object'"),
        "deep": (b"\x81\xa1a" * 5000 + b"\x01", "recursion"),
    }.values(),
)
def test_a_file_without_tensors_is_refused(tmp_path, content, message):
    file = tmp_path / "flax_model.msgpack"
    file.write_bytes(content)
    with pytest.raises(UserError) as info:
        open_msgpack(file)
    assert message in str(info.value)
    assert "\n" not in str(info.value)
