"""Parameters that are unfrozen later do not change until then and are trained afterwards; resuming in any stage is exact."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxft.core import tree
from jaxft.export import main as export
from jaxft.models.weights.tensor_files import open_weights
from jaxft.run.setup import make_run
from jaxft.train import train
from jaxft.training.checkpoint import Checkpoints
from tests.support import tiny
from tests.support.resuming import MODEL, copy_run_at, journal
from tests.support.steps import moment_trees

# One epoch of 7 steps: heads and pooler, then layer 1 from step 2 on, then layer 0 and the embeddings from step 4 on.
STAGES = {"preset": "gradual", "unfreeze_every": 2}
BEGINS = {"heads": 0, "encoder.pooler": 0, "encoder.layer.1": 2, "encoder.layer.0": 4, "encoder.embeddings": 4}


def begins(name: str) -> int:
    return next(step for prefix, step in BEGINS.items() if name.startswith(prefix + "."))


def staged(model: Path, data: Path, output: Path, /, **sections):
    sections = {
        "train": {"epochs": 1, "batch_size": 16},
        "plan": STAGES,
        "model": {"path": str(model), **tiny.NO_DROPOUT, "classifier_dropout": 0.3},
        "eval": {"every": 3, "metric": "loss"},
        "optim": {"warmup": 0},
        "checkpoint": {"every": 1, "keep": 9, "select": "last"},
        "log": {"every": 1, "progress": False},
        **sections,
    }
    return tiny.run_config(model, data, output, **sections)


@pytest.fixture(scope="module")
def finished(tiny_model, tiny_data, tmp_path_factory) -> Path:
    """A finished run with a checkpoint at every step, with dropout on."""
    folder = tmp_path_factory.mktemp("stages") / "run"
    train(staged(tiny_model, tiny_data, folder))
    return folder


def test_each_stage_trains_what_the_plan_says(finished, tiny_model, tiny_data):
    run = make_run(staged(tiny_model, tiny_data, finished))
    assert run.plan.stages == (0, 2, 4)
    checkpoints = Checkpoints(finished, keep=9)
    assert checkpoints.steps() == list(range(1, 8))
    flat = {}
    for step in range(1, 6):
        state, frozen, _ = checkpoints.restore_run(run, step)
        trained = {name for name in tree.all_names(run.params) if begins(name) < step}
        assert set(tree.all_names(state.params)) == trained
        counts = [int(x) for x in jax.tree.leaves(state.opt_state) if x.ndim == 0]
        names = [name for x in moment_trees(state.opt_state) for name in tree.all_names(x)]
        assert sorted(names) == sorted([*trained, *trained])
        # Bias correction counts from the step at which a stage begins; the schedule counts all steps.
        assert counts == [step - start for start in run.plan.stages if start < step] + [step]
        flat[step] = tree.unstack(jax.tree.map(np.array, frozen.combined(state.params).model))
    checkpoints.close()
    start = tree.unstack(run.params)
    for name, x in start.items():
        first = begins(name)
        for step in flat:
            if step <= first:
                np.testing.assert_array_equal(flat[step][name], x, err_msg=f"{name} at {step}")
            elif "self.key.bias" not in name:
                assert not np.array_equal(flat[step][name], flat[step - 1][name] if step > 1 else x), f"{name} at {step}"


@pytest.mark.parametrize("step", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow)])
def test_resuming_in_any_stage_and_at_its_beginning_is_exact(finished, tiny_model, tiny_data, tmp_path, step):
    copy_run_at(step, finished, tmp_path / "copy")
    train(staged(tiny_model, tiny_data, tmp_path / "copy"))
    assert journal(tmp_path / "copy") == journal(finished)
    assert (tmp_path / "copy" / MODEL).read_bytes() == (finished / MODEL).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        {"regularization": {"ema": 0.9, "l2_sp": 0.1, "mixout": 0.2, "r_drop": 0.5, "neftune": 5.0}},
        {"optim": {"warmup": 0, "name": "muon"}},
        {"plan": {**STAGES, "preset": ["gradual", "lora"]}},
    ],
    ids=["average and penalties", "muon", "lora"],
)
def test_stages_work_with_other_options(tiny_model, tiny_data, tmp_path, sections):
    """A resumed run opens the same stages, and in the end every trainable parameter has changed."""
    train(staged(tiny_model, tiny_data, tmp_path / "whole", **sections))
    copy_run_at(3, tmp_path / "whole", tmp_path / "copy")
    train(staged(tiny_model, tiny_data, tmp_path / "copy", **sections))
    assert journal(tmp_path / "copy") == journal(tmp_path / "whole")
    run, checkpoints = make_run(staged(tiny_model, tiny_data, tmp_path / "whole", **sections)), []
    for name in ("copy", "whole"):
        store = Checkpoints(tmp_path / name, keep=9)
        checkpoints.append(store.restore_run(run, 7)[0])
        store.close()
    jax.tree.map(np.testing.assert_array_equal, *(x.params for x in checkpoints))
    jax.tree.map(np.testing.assert_array_equal, *(x.average for x in checkpoints))
    start = tree.unstack(run.params)
    trained = {name for name, setting in run.plan.settings.items() if setting.trainable}
    after = tree.unstack(jax.tree.map(np.array, checkpoints[0].params))
    assert {begins(name) for name in trained} == {0, 2, 4}
    assert set(after) == trained
    assert {name for name in trained if np.array_equal(after[name], start[name]) and "key.bias" not in name} == set()


@pytest.mark.slow
def test_a_stage_is_restored_and_the_next_opened_on_eight_devices(tiny_model, tiny_data, tmp_path):
    sections = {"model": {"path": str(tiny_model), **tiny.NO_DROPOUT}}
    train(staged(tiny_model, tiny_data, tmp_path / "one", **sections))
    copy_run_at(3, tmp_path / "one", tmp_path / "eight")
    train(staged(tiny_model, tiny_data, tmp_path / "eight", mesh={"data": 2, "fsdp": 4}, **sections))
    rows, expected = journal(tmp_path / "eight"), journal(tmp_path / "one")
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    np.testing.assert_allclose(
        [row["loss"] for row in rows if "loss" in row], [row["loss"] for row in expected if "loss" in row], rtol=1e-5
    )


def test_a_step_of_an_earlier_stage_is_exported(finished, tiny_model, tiny_data, tmp_path):
    export([str(finished), "--output", str(tmp_path / "early"), "--step", "2"])
    run, checkpoints = make_run(staged(tiny_model, tiny_data, finished)), Checkpoints(finished, keep=9)
    state, frozen, _ = checkpoints.restore_run(run, 2)
    checkpoints.close()
    found, _ = open_weights(tmp_path / "early")
    expected = tree.unstack(frozen.combined(state.params).model)
    for name in ("heads.main.classifier.bias", "encoder.layer.0.output.LayerNorm.scale", "encoder.pooler.dense.bias"):
        np.testing.assert_array_equal(found[run.model.naming.hf_name(name)].read(), np.asarray(expected[name]))


@pytest.mark.slow
def test_the_best_step_may_lie_in_an_earlier_stage(tiny_model, tiny_data, tmp_path):
    """A run whose first evaluation stays the best one leaves that one's parameters."""
    config = staged(
        tiny_model,
        tiny_data,
        tmp_path / "run",
        checkpoint={"every": 7},
        train={"epochs": 1, "patience": 2, "min_delta": 9.0},
    )
    train(config)
    final = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert final["selected_step"] == 3
    scored = next(row for row in journal(tmp_path / "run") if row["step"] == 3 and "eval/loss" in row)
    assert final["eval/loss"] == scored["eval/loss"]
