"""Whole runs in this process: the loop, the run directory, and what it leaves."""

import json
from pathlib import Path

import numpy as np
import pytest

import jaxft
from jaxft.train import train
from tests import tiny


def rows(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_and_leaves_model_journal_and_config(tiny_model, tiny_data, tmp_path):
    config = tiny.run_config(
        tiny_model, tiny_data, tmp_path / "run", data={"test": str(tiny_data / "test.csv")}, train={"epochs": 24}
    )
    results = train(config)
    assert results["eval/accuracy"] > 0.9
    assert results["test/accuracy"] > 0.9
    journal = rows(tmp_path / "run")
    steps = [row for row in journal if "loss" in row]
    assert steps[-1]["loss"] < 0.5 < steps[0]["loss"]
    assert {"step", "epoch", "learning_rate", "examples_per_second", "tokens_per_second"} <= steps[0].keys()
    model, params = jaxft.load(str(tmp_path / "run" / "model"))
    assert model.labels == tiny.LABELS
    outputs = jaxft.forward(model, params, {"input_ids": [[2, 5, 3]]})
    assert outputs["logits"].shape == (1, 3)
    assert np.isfinite(outputs["logits"]).all()


@pytest.mark.parametrize("layout", ["pack", "bucket", "pad"])
def test_every_layout_trains(tiny_model, tiny_data, tmp_path, layout):
    sections = {"data": {"layout": layout}, "model": tiny.NO_DROPOUT, "train": {"epochs": 1}}
    assert np.isfinite(train(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", **sections))["eval/loss"])
