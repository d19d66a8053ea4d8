"""Prediction of many rows in chunks: the same answers in the same order, written as they come, completely or not at all."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from jaxft import evaluate, predict
from jaxft.core import progress
from jaxft.core.errors import UserError
from jaxft.data.reading import delimited, spool
from jaxft.evaluation import chunks, row_formats
from jaxft.training import rows_display
from tests.support import read_jsonl, tiny

COUNT = 45
WORDS = ["river", "runs", "bright", "lake", "storm", "old", "stone", "and", "song", "under", "the", "bridge", "over", "sun"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("many") / "model", labels=tiny.LABELS)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """Lengths that differ between chunks, and a row without a text."""
    path = tmp_path_factory.mktemp("rows") / "in.txt"
    lines = [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(1 + i // 3)) for i in range(COUNT)]
    lines[20] = ""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def predicted(model: Path, texts: Path, output: Path, *options: str) -> Path:
    predict.main([str(model), "--input", str(texts), "--output", str(output), "--data.max_length=32", *options])
    return output


def rows_of(path: Path) -> list[dict]:
    return read_jsonl(path)


@pytest.mark.parametrize("layout", ["pack", "bucket", "pad"])
def test_chunks_give_the_same_answers(model, texts, tmp_path, monkeypatch, layout):
    """Up to rounding, because other examples share a row."""
    options = (f"--data.layout={layout}", "--eval.batch_size=8")
    whole = rows_of(predicted(model, texts, tmp_path / "whole.jsonl", *options))
    monkeypatch.setattr(chunks, "ROWS_PER_CHUNK", 8)
    found = rows_of(predicted(model, texts, tmp_path / "parts.jsonl", *options))
    assert len(found) == len(whole) == COUNT
    for one, other in zip(found, whole, strict=True):
        assert one["label"] == other["label"]
        assert (one["score"] is None) == (other["score"] is None)
        if other["scores"] is not None:
            np.testing.assert_allclose(list(one["scores"].values()), list(other["scores"].values()), atol=1e-6)
    assert found[20] == {"label": None, "score": None, "scores": None}


def test_an_array_is_written_in_chunks(model, texts, tmp_path, monkeypatch):
    arrays = []
    for size in (chunks.ROWS_PER_CHUNK, 8):
        monkeypatch.setattr(chunks, "ROWS_PER_CHUNK", size)
        arrays.append(np.load(predicted(model, texts, tmp_path / f"{size}.npy", "--features=mean")))
        dropped = np.load(predicted(model, texts, tmp_path / "d.npy", "--features=mean", "--data.empty_texts=drop"))
        np.testing.assert_array_equal(dropped, np.delete(arrays[-1], 20, axis=0))
    np.testing.assert_allclose(*arrays, atol=1e-5)
    assert np.isnan(arrays[1]).all(axis=1).nonzero()[0].tolist() == [20]


def test_chunks_share_a_program(model, tmp_path, monkeypatch):
    """Also the last one, which is smaller."""
    path = tmp_path / "in.txt"
    lines = [" ".join(WORDS[: 3 + (i * 7) % 9]) for i in range(150)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    compiled = []
    compile_lowered = chunks.compile_lowered
    monkeypatch.setattr(chunks, "ROWS_PER_CHUNK", 32)
    monkeypatch.setattr(
        chunks, "compile_lowered", lambda program, name: compiled.append(name) or compile_lowered(program, name)
    )
    predicted(model, path, tmp_path / "out.jsonl", "--eval.batch_size=8")
    assert len(compiled) == 1


def test_rows_are_written_as_they_come_and_an_error_leaves_no_output(model, texts, tmp_path, monkeypatch):
    """The error, in the last chunk, names the row of the whole file."""
    monkeypatch.setattr(chunks, "ROWS_PER_CHUNK", 8)
    output = tmp_path / "out" / "rows.jsonl"
    output.parent.mkdir()
    written, write_lines = [], row_formats.write_lines
    seen = []
    call = chunks.Forward.__call__

    def watched(self, *args, **options):
        seen.append(len(written))
        return call(self, *args, **options)

    monkeypatch.setattr(chunks.Forward, "__call__", watched)
    monkeypatch.setattr(
        row_formats, "write_lines", lambda file, rows: write_lines(file, (written.append(x) or x for x in rows))
    )
    with pytest.raises(UserError, match=r"in\.txt: row 43 is 17 tokens long"):
        predicted(model, texts, output, "--data.max_length=16", "--data.truncation=false")
    assert seen == [0, 8, 16, 24, 32]
    assert list(output.parent.iterdir()) == []


def test_all_chunks_share_one_progress(model, texts, tmp_path, monkeypatch, capfd):
    """It is announced once and also advances within a chunk; tokenising reports nothing."""
    monkeypatch.setattr(chunks, "ROWS_PER_CHUNK", 30)
    monkeypatch.setattr(rows_display, "MANY", 10)
    monkeypatch.setattr(rows_display, "EVERY", 0.0)
    predicted(model, texts, tmp_path / "out.jsonl", "--eval.batch_size=8")
    lines = [line for line in capfd.readouterr().err.splitlines() if "tokenising" in line or "predicting" in line]
    assert lines[0] == f"predicting: {COUNT} rows"
    found = [
        re.fullmatch(rf"predicting: (\d+) of {COUNT} rows(, [\d,.]+ rows/s, \d+:\d\d left)?", line) for line in lines[1:]
    ]
    done = [int(match[1]) for match in found if match]
    assert len(done) == len(found)
    assert done == sorted(set(done))
    assert len([x for x in done if 0 < x < 30]) >= 2
    assert len([x for x in done if 30 <= x < COUNT]) >= 1


def test_tokenising_for_a_run_is_announced_once(model, tmp_path, monkeypatch, capfd):
    """With the number of rows, and not at all if the cache has the tokens."""
    monkeypatch.setattr(progress, "MANY", 10)
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    rows = tiny.write_rows(tmp_path / "rows.csv", 12)
    for lines in ([f"tokenising {rows}: 12 rows"], []):
        evaluate.main([str(model), f"--data.validation={rows}", "--data.max_length=32"])
        assert [line for line in capfd.readouterr().err.splitlines() if "tokenising" in line] == lines


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    """Neither texts (2 kB a row) nor embeddings (1 kB a row) are kept.

    The test counts the bytes that Python, numpy and Arrow allocate. The resident memory of a process would also count
    fragments of its heap, which vary by more than these rows take.
    """
    width, size = 2_000, 256
    wider = {"hidden_size": size, "num_attention_heads": 4, "intermediate_size": 32, "num_hidden_layers": 1}
    model = tiny.write_model(tmp_path / "model", labels=None, seed=0, **wider)
    monkeypatch.setattr(delimited, "ROWS", 64)
    monkeypatch.setattr(spool, "IN_MEMORY", 1 << 16)
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    options = ["--features=mean", "--data.max_length=8", "--data.cache=false"]

    def peak(count: int, rows_per_chunk: int) -> int:
        """Bytes that were allocated at most."""
        monkeypatch.setattr(chunks, "ROWS_PER_CHUNK", rows_per_chunk)
        path = tmp_path / "rows.csv"
        path.write_text("text\n" + "".join(f"river runs {i} {'x' * width}\n" for i in range(count)), encoding="utf-8")
        pool = pyarrow.default_memory_pool()
        counted = pyarrow.proxy_memory_pool(pool)
        pyarrow.set_memory_pool(counted)
        tracemalloc.start()
        try:
            predict.main([str(model), "--input", str(path), "--output", str(tmp_path / "out.npy"), *options])
            return tracemalloc.get_traced_memory()[1] + counted.max_memory()
        finally:
            tracemalloc.stop()
            pyarrow.set_memory_pool(pool)

    few, many = 3_000, 6_000
    held = (many - few) * (width + 4 * size)
    predicted(model, tiny.write_rows(tmp_path / "few.csv", 12), tmp_path / "few.npy", *options)  # what happens once
    at_once = [peak(count, many) for count in (few, many)]
    in_chunks = [peak(count, 1_024) for count in (few, many)]
    assert at_once[1] - at_once[0] > held / 2, "the measurement misses what is held"
    assert in_chunks[1] - in_chunks[0] < held / 4
