"""Settings of every test, and the tiny model and data that tests share."""

import os
import tempfile
from importlib.metadata import version

# Every session has its own cache of jaxft's: it begins empty and is removed at the end.
CACHE = tempfile.mkdtemp(prefix="jaxft-test-cache-")
os.environ["JAXFT_CACHE"] = CACHE
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = f"{CACHE}/datasets"
# The programs are tiny: optimising them would take longer than running them. programs/test_compile_options.py compares
# the results with those of a user's options.
TEST_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if version("jaxlib").startswith("0.10."):  # later ones have no other emitters; an unknown flag would abort the process
    TEST_FLAGS += " --xla_cpu_use_fusion_emitters=false"
# Eight devices share two cores: on a busy machine one may reach a collective 40 s after the others, and XLA would abort.
TEST_FLAGS += " --xla_cpu_collective_call_terminate_timeout_seconds=600"
if TEST_FLAGS not in os.environ.get("XLA_FLAGS", ""):  # workers inherit the main process's
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {TEST_FLAGS}".strip()
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # of PyTorch, whose threads spin; there is a worker for each core

import jaxft  # noqa: F401  (sets the XLA flag before a backend starts)

import gc
import importlib
import shutil
from pathlib import Path

import jax
import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

from jaxft.config import cli
from jaxft.core import uninterruptible
from jaxft.train import train
from tests.support import SHARED, programs, tiny

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_traceback_in_locations_limit", 0)  # they take a tenth of tracing
programs.use_cache()
# Tracing makes many long-lived objects; the garbage collector would visit them, and imported modules, again and again.
gc.freeze()
gc.set_threshold(100_000, 50, 100)

settings.register_profile("tests", deadline=None)  # a busy machine is no fault
settings.load_profile("tests")

pytest_plugins = ["tests.support.tiers", "tests.support.workers"]


def pytest_sessionfinish() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip("../shared/data is not there")
    return SHARED / "data"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory: BERT with two tiny layers, random weights, a WordPiece tokenizer."""
    return tiny.write_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with a classifier of tiny.LABELS, as after fine-tuning."""
    return tiny.write_model(tmp_path_factory.mktemp("tiny") / "classifier", labels=tiny.LABELS)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv (100 rows), dev.csv (30) and test.csv (30): columns text, label; a learnable rule."""
    folder = tmp_path_factory.mktemp("data")
    for seed, (name, rows) in enumerate({"train": 100, "dev": 30, "test": 30}.items()):
        tiny.write_rows(folder / f"{name}.csv", rows, seed)
    return folder


@pytest.fixture(scope="session")
def finished(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run directory, to read only."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    train(tiny.run_config(tiny_model, tiny_data, directory, model=tiny.NO_DROPOUT, train={"epochs": 1}))
    return directory


class _AlwaysFalse(set):
    def __bool__(self) -> bool:
        return False


@pytest.fixture(autouse=True)
def _commands_end_by_an_exception(monkeypatch):
    """A command that fails while a thread compiles ends its process at once; in a test that would be the worker."""
    monkeypatch.setattr(uninterruptible, "_busy", _AlwaysFalse())


@pytest.fixture
def fails(capfd):
    """Run a command that must fail with one line that contains all the words; returns the line."""

    def run(command: str, argv: list, *words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            cli.run_main(importlib.import_module(f"jaxft.{command}").main, [str(a) for a in argv])
        out, err = capfd.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert stop.value.code == 2
        assert len(lines) == 1, err
        assert err.splitlines()[-1] == lines[0]
        assert "Traceback" not in err + out
        for word in words:
            assert word in lines[0], f"{word!r} is not in: {lines[0]}"
        return lines[0]

    return run


@pytest.fixture
def train_fails(fails, tiny_model, tiny_data, tmp_path):
    """Run jaxft.train on the tiny model and data with some options changed; it must fail and write nothing."""

    def run(changes: dict, *words: str, model: Path = tiny_model) -> str:
        options = {
            "model.path": model,
            "data.train": tiny_data / "train.csv",
            "data.validation": tiny_data / "dev.csv",
            "data.max_length": 32,
            "output_dir": tmp_path / "run",
        } | changes
        line = fails("train", [f"--{k}={v}" for k, v in options.items() if v is not None], *words)
        assert not (tmp_path / "run").exists()
        return line

    return run
