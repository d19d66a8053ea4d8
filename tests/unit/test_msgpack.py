"""flax_model.msgpack: what Flax reads is what is read here, tensor by tensor; what is torn is refused at opening."""

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
    """Flax cuts tensors of more than 64 bytes, as it else cuts those of more than 1 GiB."""
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES)
def test_any_tree_of_flax(tree, tmp_path, chunks):
    file = tmp_path / "flax_model.msgpack"
    file.write_bytes(serialization.msgpack_serialize(tree))
    assert equal(read(file), flat(tree))


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.dictionaries(st.lists(NAMES, min_size=3, max_size=3).map(tuple), tensors(), max_size=20))
def test_flax_writes_the_same_file(tree, tmp_path, chunks):
    write_msgpack({".".join(path): x for path, x in tree.items()}, tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == serialization.msgpack_serialize(unflatten(tree))


def whole_file() -> bytes:
    rng = np.random.default_rng(0)
    layers = {str(i): np.full(2, i, "f4") for i in range(17)}
    words = rng.normal(size=(10, 4)).astype(ml_dtypes.bfloat16)
    return serialization.msgpack_serialize({"encoder": {"layer": layers}, "words": words, "scale": np.float32(3), "z": 1j})


def test_torn_anywhere(tmp_path, chunks):
    """Wherever a file ends too early, opening it says so: every byte counts, those of tensors too."""
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


def test_flipped_anywhere(tmp_path, chunks):
    """A changed byte is an error, or it is in a value or a name, and then Flax reads the same."""
    content, file = bytearray(whole_file()), tmp_path / "flax_model.msgpack"
    refused = 0
    for place in range(len(content)):
        for mask in (0xFF, 0x01):
            torn = content.copy()
            torn[place] ^= mask
            file.write_bytes(torn)
            try:
                found = read(file)
            except UserError:
                refused += 1
            else:
                assert equal(found, flat(serialization.msgpack_restore(bytes(torn)))), place
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
def test_what_is_no_tensor(tmp_path, content, message):
    file = tmp_path / "flax_model.msgpack"
    file.write_bytes(content)
    with pytest.raises(UserError) as info:
        open_msgpack(file)
    assert message in str(info.value)
    assert "\n" not in str(info.value)
