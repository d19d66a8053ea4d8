"""Settings of every test, and the tiny model and data that tests share."""

import os
import tempfile

# A cache of the session's own: it starts cold, and what tests write is gone with it.
CACHE = tempfile.mkdtemp(prefix="jaxft-test-cache-")
os.environ["JAXFT_CACHE"] = CACHE
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = f"{CACHE}/datasets"
# The programs are tiny: compiling them well would take longer than running them.
FAST_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FAST_COMPILE}".strip()
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import jaxft  # noqa: F401  (sets the XLA flag before a backend starts)

import csv
import random
import shutil
from pathlib import Path

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

from tests import tiny

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _remove_cache():
    yield
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
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv (100 rows), dev.csv (30) and test.csv (30): columns text, label; a learnable rule."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    for name, rows in (("train", 100), ("dev", 30), ("test", 30)):
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for _ in range(rows):
                label = rng.choice(tiny.LABELS)
                words = [*rng.choices(tiny.WORDS, k=rng.randint(1, 12)), tiny.CLUES[label]]
                rng.shuffle(words)
                writer.writerow([" ".join(words), label])
    return folder
