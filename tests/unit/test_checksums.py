"""Checksums: manifests of folders, and caches that notice changed or damaged files."""

import os
import random
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest

from jaxft.config import DataConfig
from jaxft.core import checksums
from jaxft.data.reading.sources import load_verified, read_rows
from jaxft.data.tokens import cache
from tests.support import tiny


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "f" / "deep").mkdir(parents=True)
    (tmp_path / "f" / "a").write_bytes(bytes(range(200)))
    (tmp_path / "f" / "deep" / "b").write_bytes(b"some text")
    (tmp_path / "f" / "deep" / "empty").write_bytes(b"")
    checksums.write_manifest(tmp_path / "f", exclude=["left"], step=3)
    return tmp_path / "f"


def test_a_manifest_verifies_its_folder(folder):
    (folder / "left").write_text("new files and those left out do not count")
    assert checksums.verify(folder)["step"] == 3
    (folder / checksums.MANIFEST).unlink()
    assert checksums.verify(folder) is None
    assert checksums.verify(folder / "absent") is None


@pytest.mark.parametrize("name", ["a", "deep/b", checksums.MANIFEST])
def test_a_flipped_bit_in_any_file_is_found(folder, name):
    whole, rng = (folder / name).read_bytes(), random.Random(0)
    for _ in range(40):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (folder / name).write_bytes(data)
        try:  # a bit of the manifest's white space may change nothing
            assert name == checksums.MANIFEST
            assert checksums.verify(folder)["step"] == 3
        except (AssertionError, checksums.Damaged):
            with pytest.raises(checksums.Damaged, match=name):
                checksums.verify(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "deep/b is not there"),
        (lambda path: path.write_bytes(b""), "deep/b has 0 bytes instead of 9"),
        (lambda path: path.write_bytes(b"some texts"), "deep/b has 10 bytes instead of 9"),
        (lambda path: path.write_bytes(b"some tixt"), "deep/b has other content"),
    ],
)
def test_the_damage_is_described(folder, change, words):
    change(folder / "deep" / "b")
    with pytest.raises(checksums.Damaged, match=words):
        checksums.verify(folder)


def test_a_digest_of_arrays_depends_on_names_types_shapes_and_values():
    x = np.arange(6, dtype=np.float32)
    several = [[("a", x)], [("b", x)], [("a", x.reshape(2, 3))], [("a", x.astype(np.int32))], [("a", x + 1)], []]
    digests = [checksums.of_arrays(arrays) for arrays in several]
    assert len(set(digests)) == len(digests)
    assert checksums.of_arrays([("a", np.asfortranarray(x.reshape(2, 3)))]) == digests[2]
    assert checksums.of_arrays([("a", np.float32(1))]) != checksums.of_arrays([("a", np.float32(2))])


def test_a_changed_file_of_the_same_name_size_and_time_is_read_again(tmp_path):
    path = tmp_path / "t.csv"
    for content in ("text,label\ngood,a\n", "text,label\nevil,b\n"):
        path.write_text(content)
        os.utime(path, (1e9, 1e9))
        rows = read_rows(DataConfig(train=str(path)), "train", needed=["text", "label"])
        assert [*rows[0].values()] == content.split("\n")[1].split(",")
    digests = {cache.content_digest(x) for x in (rows, rows.select([0]), rows.select_columns(["text"]), rows.select([]))}
    assert len(digests) == 3


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes({"flipped": data, "truncated": data[:-8], "empty": b""}.get(how, b""))
    if how == "deleted":
        path.unlink()


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "deleted"])
def test_damaged_cached_tokens_are_computed_again(tmp_path, monkeypatch, capfd, how):
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    tiny.write_tokenizer(tmp_path)
    rows, made = datasets.Dataset.from_dict({"text": ["a", "b"]}), []

    def make():
        made.append(1)
        return {"x": np.arange(50), "y": np.ones(3)}

    def look(rows=rows):
        found = cache.cached(make, rows=rows, directory=tmp_path, tokenizer=None, settings=["s"], use=True)
        np.testing.assert_array_equal(found["x"], np.arange(50))
        assert set(found) == {"x", "y"}

    look()
    look()
    assert len(made) == 1
    for name in ("x.npy", "y.npy", checksums.MANIFEST):
        (path,) = (tmp_path / "cache" / "tokens").glob(f"*/{name}")
        damage(path, how)
        capfd.readouterr()
        before = len(made)
        look()
        look()
        assert len(made) == before + 1, name
        assert "damaged" in capfd.readouterr().err
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 1
    look(datasets.Dataset.from_dict({"text": ["a", "c"]}))
    assert len(made) == 5


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "deleted"])
def test_damaged_rows_in_the_cache_of_datasets_are_read_again(tmp_path, how):
    (tmp_path / "t.csv").write_text(f"text,label\n{how},a\n")
    load = partial(datasets.load_dataset, "csv", data_files=str(tmp_path / "t.csv"), split="train", cache_dir=tmp_path / "c")
    path = Path(load_verified(load).cache_files[0]["filename"])
    if how == "flipped":
        data = path.read_bytes()
        path.write_bytes(data.replace(b"flipped", b"flopped"))
    else:
        damage(path, how)
    for _ in range(2):
        assert load_verified(load)[0] == {"text": how, "label": "a"}
