"""Runs with matches between layers: resuming, what is exported, stages, and frozen layers that are computed once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jaxft
from jaxft import export
from jaxft.config import cli
from jaxft.core import tree
from jaxft.preflight import costs
from jaxft.run.setup import make_run
from jaxft.train import train
from jaxft.training import frozen_features
from jaxft.training.loop import Loop
from tests.support import tiny
from tests.support.resuming import MODEL, assert_journals_close, assert_resume_is_exact, journal, short_config

DEEP = {"num_hidden_layers": 3, "hidden_size": 30, "num_attention_heads": 3}
MATCHES = [
    {"match": "hidden_mse", "layers": [[1, 1], [2, 3]], "projection": "linear", "learning_rate": 1e-2},
    {"match": "attention_ce"},
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("teacher") / "model", labels=tiny.LABELS, seed=9, **DEEP)


def distill(teacher: Path, matches=MATCHES, **more) -> dict:
    return {"distill": {"teacher": str(teacher), "matches": matches, **more}}


def projections(config) -> dict[str, np.ndarray]:
    """Those of the last checkpoint of a run."""
    loop = Loop(make_run(config), Path(config.output_dir))
    found = tree.unstack(loop.state.params["projections"])
    loop.close()
    return {name: np.asarray(x) for name, x in found.items()}


def test_resuming_is_exact_and_the_model_has_no_projections(classifier, teacher, tiny_data, tmp_path):
    """The teacher may be gone when a checkpoint is exported."""
    own = shutil.copytree(teacher, tmp_path / "teacher")
    assert_resume_is_exact(classifier, tiny_data, tmp_path, MODEL, **distill(own))
    run = tmp_path / "whole"
    assert np.abs(projections(short_config(classifier, tiny_data, run, **distill(own)))["1.bias"]).max() > 1e-3
    _, params = jaxft.load(str(run / "model"))
    assert set(params) == {"encoder", "heads"}
    for row in (x for x in journal(run) if "loss" in x):  # the weights of hard and soft loss are a half each
        hard, soft, *each = (
            row[f"distill/{name}"] for name in ("hard", "soft", "match_1_hidden_mse", "match_2_attention_ce")
        )
        assert row["loss"] == pytest.approx((hard + soft) / 2 + sum(each), rel=1e-5)
    shutil.rmtree(own)
    export.main([str(run), "--output", str(tmp_path / "exported")])
    assert (tmp_path / "exported/model.safetensors").read_bytes() == (run / MODEL).read_bytes()


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(classifier, teacher, tiny_data, tmp_path):
    """SIGKILL, with dropout and micro-batches."""
    sections = {
        "model": {"path": str(classifier)},
        "train": {"epochs": 3, "batch_size": 16, "micro_batches": 2},
        **distill(teacher),
    }
    configs = [short_config(classifier, tiny_data, tmp_path / name, **sections) for name in ("whole", "killed")]
    commands = []
    for config in configs:
        path = Path(f"{config.output_dir}.yaml")
        path.write_text(cli.dump(config))
        commands.append([sys.executable, "-m", "jaxft.train", str(path)])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    subprocess.run(commands[0], env=environment, check=True, capture_output=True)
    steps = tmp_path / "killed/metrics.jsonl"
    for least in (4, 13):
        process = subprocess.Popen(commands[1], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (steps.exists() and steps.read_text().count('"learning_rate"') >= least):
            time.sleep(0.001)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(commands[1], env=environment, check=True, capture_output=True)
    assert journal(tmp_path / "killed") == journal(tmp_path / "whole")
    assert (tmp_path / "killed" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    whole, killed = map(projections, configs)
    for name, x in whole.items():
        np.testing.assert_array_equal(killed[name], x)


@pytest.mark.parametrize(
    ("matches", "layers"),
    [
        ([{"match": "pkd", "layers": [[2, 3]], "projection": "linear"}], 1),
        ([{"match": "nst", "layers": [[1, 1]]}], 1),
        ([{"match": "nst", "layers": [[0, 0]]}], 0),
        ([{"match": "attention_ce", "layers": [[2, 3]]}], 1),
        ([{"match": "key_relation", "layers": [[1, 1]]}], 0),
    ],
    ids=str,
)
def test_layers_below_the_lowest_match_are_computed_once(classifier, teacher, tiny_data, tmp_path, matches, layers):
    sections = {"train": {"epochs": 2}, "plan": {"preset": "head"}, **distill(teacher, matches)}
    run = make_run(short_config(classifier, tiny_data, tmp_path / "run", **sections))
    assert frozen_features.frozen_layers(run) == layers
    assert any("the plan trains nothing of the encoder" in note for note in run.notes)


@pytest.mark.slow
def test_a_run_on_cached_layers_gives_what_it_gives_without(classifier, teacher, tiny_data, tmp_path, capsys):
    """The states of the highest layer that is cached are matched, too."""
    matches = [{"match": "hidden_mse", "layers": [[1, 1], [2, 3]], "projection": "linear"}, {"match": "attention_ce"}]
    found = []
    for name, keep in (("kept", True), ("plain", False)):
        runtime = {"distributed": "off", "unroll": 1, "keep_frozen": keep}
        sections = {"train": {"epochs": 2}, "plan": {"preset": "last_n", "n": 1}, "runtime": runtime}
        capsys.readouterr()
        train(short_config(classifier, tiny_data, tmp_path / name, **sections, **distill(teacher, matches)))
        assert ("computing the frozen" in capsys.readouterr().err) == keep
        found.append(journal(tmp_path / name))
    assert_journals_close(*found, rel=1e-4)


def test_plan_counts_the_projections(classifier, teacher, tiny_data, tmp_path):
    run = make_run(short_config(classifier, tiny_data, tmp_path / "run", **distill(teacher)))
    memory = dict(zip((row.pattern for row in run.plan.rows), costs.optimizer_memory(run), strict=True))
    assert memory[r"^projections\.1\."] == 2 * 4 * (24 * 30 + 30)
