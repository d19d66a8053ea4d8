"""Runs in this process: the training loop, the run directory, and its files."""

import gc
from pathlib import Path

import jax
import numpy as np

import jaxft
from jaxft.train import train
from jaxft.training.loop import Loop
from tests.support import read_jsonl, tiny


def rows(directory: Path) -> list[dict]:
    return read_jsonl(directory / "metrics.jsonl")


def test_a_run_learns_and_leaves_model_journal_and_config(tiny_model, tiny_data, tmp_path):
    config = tiny.run_config(
        tiny_model,
        tiny_data,
        tmp_path / "run",
        model=tiny.NO_DROPOUT,
        data={"test": str(tiny_data / "test.csv")},
        train={"epochs": 24},
        eval={"every": "12 epochs", "metric": "loss"},
        checkpoint={"every": "12 epochs"},
    )
    results = train(config)
    assert results["eval/accuracy"] > 0.9
    assert results["test/accuracy"] > 0.9
    journal = rows(tmp_path / "run")
    steps = [row for row in journal if "loss" in row]
    assert steps[-1]["loss"] < 0.5 < steps[0]["loss"]
    assert {"step", "epoch", "learning_rate", "examples_per_second", "tokens_per_second"} <= steps[0].keys()
    assert all(0 < sum(row[f"share_{x}"] for x in ("data", "dispatch", "device")) <= 1.01 for row in steps)
    evaluated = {row["step"]: row["eval/loss"] for row in journal if "eval/loss" in row and not row.get("final")}
    assert journal[-1]["selected_step"] == min(evaluated, key=evaluated.__getitem__) == 168
    assert len(evaluated) == 2
    model, params = jaxft.load(str(tmp_path / "run" / "model"))
    assert model.labels == tiny.LABELS
    outputs = jaxft.forward(model, params, {"input_ids": [[2, 5, 3]]})
    assert outputs["logits"].shape == (1, 3)
    assert np.isfinite(outputs["logits"]).all()


def test_memory_is_constant_over_evaluations_and_checkpoints(tiny_data, tmp_path, monkeypatch):
    """If each held a state, the arrays that are alive in the second half would double.

    The checkpoint that is being written is waited for; a few batches may be in flight or not.
    """
    alive, evaluate = [], Loop._evaluate

    def counted(self, step):
        better = evaluate(self, step)
        self.checkpoints.wait()
        alive.append(sum(x.nbytes for x in jax.live_arrays()))
        return better

    monkeypatch.setattr(Loop, "_evaluate", counted)
    model = tiny.write_model(tmp_path / "model", num_hidden_layers=1)
    sections = {"model": tiny.NO_DROPOUT, "eval": {"every": 2}, "checkpoint": {"every": 2}}
    gc.collect()  # what earlier tests left
    train(tiny.run_config(model, tiny_data, tmp_path / "run", **sections, data={"layout": "pad"}))
    assert len(alive) == 7
    assert max(alive[4:]) < 1.5 * max(alive[:4])
