"""A prediction that was killed goes on where it was: the file is that of an undisturbed command, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxft import predict
from jaxft.core.signals import Stopped
from jaxft.evaluation import chunks
from tests.support import read_jsonl, tiny

COUNT = 45
WORDS = ["river", "runs", "bright", "lake", "storm", "old", "stone", "and", "song", "under", "the", "bridge", "over", "sun"]
ENDS = [8, 24, 40, 45]  # of the chunks


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("killed") / "model", labels=tiny.LABELS)


def write_texts(path: Path, count: int = COUNT) -> Path:
    """Texts that grow, so that later chunks need other shapes; one is empty."""
    texts = [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(1 + 16 * i // count)) for i in range(count)]
    texts[20] = ""
    path.write_text("".join(json.dumps({"text": x, "number": i}) + "\n" for i, x in enumerate(texts)), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "STEPS_OF_FIRST", 2)
    monkeypatch.setattr(chunks, "ROWS_PER_CHUNK", 16)


@pytest.fixture
def ended_in(monkeypatch):
    """Ends the command in its nth chunk from now on, by a function; returns the rows of each chunk that was begun."""
    call = chunks.Forward.__call__

    def at(number: int, end=lambda: None) -> list[int]:
        seen: list[int] = []

        def watched(self, examples, *args, **options):
            seen.append(len(examples))
            if len(seen) == number:
                end()
            return call(self, examples, *args, **options)

        monkeypatch.setattr(chunks.Forward, "__call__", watched)
        return seen

    return at


def crash() -> None:
    raise RuntimeError("the device is lost")


def predicted(model: Path, texts: Path, output: Path, *options: str) -> bytes:
    shape = ("--data.max_length=32", "--eval.batch_size=4")
    predict.main([str(model), "--input", str(texts), "--output", str(output), *shape, *options])
    return output.read_bytes()


@pytest.mark.parametrize(
    ("name", "options", "stops"),
    [
        ("out.jsonl", ("--keep_columns", "--data.empty_texts=drop"), (3, 2)),  # of the second command, it is chunk 4 of all
        ("out.npy", ("--features=mean",), (3,)),
        pytest.param("out.jsonl", ("--features=cls",), (4,), marks=pytest.mark.slow),
    ],
)
def test_it_goes_on_where_it_was_stopped(model, tmp_path, ended_in, capfd, name, options, stops):
    texts, output = write_texts(tmp_path / "in.jsonl"), tmp_path / name
    whole = predicted(model, texts, tmp_path / f"whole-{name}", *options)
    assert chunks.chunk_ends(COUNT, 4, "pack") == ENDS
    done = 0
    for number in stops:
        done += number - 1
        ended_in(number, crash)
        with pytest.raises(RuntimeError):
            predicted(model, texts, output, *options)
        assert not output.exists()
    seen = ended_in(0)
    assert predicted(model, texts, output, *options) == whole
    assert sum(seen) == COUNT - ENDS[done - 1]
    assert f"{output}.partial: has {ENDS[done - 1]} of 45 rows; goes on there" in capfd.readouterr().err
    assert {x.name for x in tmp_path.iterdir()} == {"in.jsonl", name, f"whole-{name}"}


def test_rows_of_another_input_or_option_are_predicted_again(model, tmp_path, ended_in, capfd):
    texts, output = write_texts(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"

    def stop() -> None:
        ended_in(2, crash)
        with pytest.raises(RuntimeError):
            predicted(model, texts, output)
        ended_in(0)

    stop()
    predicted(model, texts, output, "--data.max_length=24")
    assert "out.jsonl.partial: is not used, and begins anew: data.max_length was 32 and is 24" in capfd.readouterr().err
    stop()
    texts.write_text(texts.read_text(encoding="utf-8").replace("river", "rivers", 1), encoding="utf-8")
    predicted(model, texts, output)
    assert "begins anew: the content of --input has changed" in capfd.readouterr().err


def test_a_signal_says_what_is_kept(model, tmp_path, ended_in):
    texts, output = write_texts(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    for number, says in ((1, r"nothing is written to .*out\.jsonl"), (2, r"8 of 45 rows are kept in .*out\.jsonl\.partial")):
        ended_in(number, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped, match=f"stopped; {says}") as stopped:
            predicted(model, texts, output)
        assert stopped.value.number == signal.SIGTERM
    assert len(read_jsonl(tmp_path / "out.jsonl.partial")) == 8


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_that_is_killed_goes_on(model, tmp_path, number):
    count = 1_500
    texts = write_texts(tmp_path / "in.jsonl", count)

    def start(output: Path) -> subprocess.Popen:
        options = ("--data.max_length=32", "--eval.batch_size=4", "--keep_columns")
        command = [sys.executable, "-m", "jaxft.predict", str(model), "--input", str(texts), "--output", str(output)]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        return subprocess.Popen([*command, *options], env=environment, stderr=subprocess.PIPE, text=True)

    output, partial, state = (tmp_path / f"out.jsonl{end}" for end in ("", ".partial", ".partial.state"))
    process = start(output)
    while not (state.exists() and '"rows": ' in state.read_text()):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(number)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), told
    assert number == signal.SIGKILL or f"of {count:,} rows are kept in {partial}" in told.splitlines()[-1]
    assert not output.exists()
    told = start(output).communicate(timeout=300)[1]
    assert f"{partial}: has " in told
    start(tmp_path / "whole.jsonl").communicate(timeout=300)
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
