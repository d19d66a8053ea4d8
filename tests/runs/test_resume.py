"""A run that is killed at any moment and started again ends as if it had not been interrupted."""

import json
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.models.weights.tensor_files import open_weights
from jaxft.run.setup import make_run
from jaxft.run.state import fresh_state
from jaxft.train import train
from jaxft.training import integrity
from jaxft.training.checkpoint import Checkpoints
from jaxft.training.early_stopping import EvaluationState
from jaxft.training.journal import rewind
from jaxft.training.loop import Loop
from tests.support import tiny
from tests.support.resuming import MODEL, Command, assert_resume_is_exact, copy_run_at, journal, short_config


@pytest.mark.slow
def test_a_run_that_saves_by_the_clock_resumes_exactly(classifier, tiny_data, tmp_path):
    options = {"plan": {"preset": "head"}, "checkpoint": {"every": "0.00001 minutes", "keep": 9}}
    assert_resume_is_exact(classifier, tiny_data, tmp_path, MODEL, **options)
    assert integrity.steps(tmp_path / "half") == [1, 2, 3, 4, 5, 6, 7]


def writing(folder: Path) -> bool:
    """Whether a checkpoint is being written at this moment."""
    return any("tmp" in path.name for path in folder.glob("checkpoints/*"))


@pytest.mark.slow
def test_killed_runs_end_bit_identical(tiny_model, tiny_data, tmp_path):
    """With dropout, micro-batches and stages."""
    sections = {
        "train": {"epochs": 8, "batch_size": 16, "micro_batches": 2, "patience": 8},
        "plan": {"preset": "gradual", "unfreeze_every": 8},
        "eval": {"every": 4, "metric": "loss"},
        "checkpoint": {"every": 3, "keep": 2},
        "log": {"every": 1, "progress": False},
    }
    whole, killed = (
        Command(tiny.run_config(tiny_model, tiny_data, tmp_path / name, **sections), tmp_path)
        for name in ("whole", "killed")
    )
    whole.finish()
    expected = journal(whole.directory)
    steps = [row["step"] for row in expected if "loss" in row]
    assert steps == list(range(1, len(steps) + 1))
    assert 36 <= len(steps) <= 56  # at the earliest it stops after 8 evaluations without a better one
    rng = random.Random(0)
    begin = time.monotonic()
    delay = rng.uniform(1.0, 5.0)
    got = [killed.kill_when(lambda: time.monotonic() > begin + delay)]
    for number, after in enumerate(sorted(rng.sample(range(4, 33), 2))):
        pause = rng.uniform(0, 0.05)

        def happens(number=number, after=after, pause=pause) -> bool:
            """In turn: while a checkpoint is written, and at a random moment."""
            steps = text(killed.directory / "metrics.jsonl").count('"learning_rate"')
            if steps < after:
                return False
            if number % 2 == 0:  # a checkpoint is due within three steps; a busy machine may miss the moment
                return writing(killed.directory) or steps >= after + 3
            time.sleep(pause)
            return True

        got.append(killed.kill_when(happens))
    got.append(killed.kill_when(lambda: '"final"' in text(killed.directory / "metrics.jsonl")))
    assert all(got), killed.log.read_text()
    assert "resuming at step" in killed.log.read_text()
    killed.finish()
    assert journal(killed.directory) == expected
    assert (killed.directory / MODEL).read_bytes() == (whole.directory / MODEL).read_bytes()

    # Resuming what is complete changes nothing.
    before = text(killed.directory / "metrics.jsonl")
    killed.finish()
    assert text(killed.directory / "metrics.jsonl") == before
    assert (killed.directory / MODEL).read_bytes() == (whole.directory / MODEL).read_bytes()


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"data": 1}, {"data": 1, "fsdp": 8}),
        pytest.param({"data": 1, "fsdp": 8}, {"data": 1}, marks=pytest.mark.slow),
    ],
)
def test_a_run_resumes_on_another_number_of_devices(classifier, tiny_data, tmp_path, first, second):
    train(short_config(classifier, tiny_data, tmp_path / "whole", mesh=first))
    copy_run_at(3, tmp_path / "whole", tmp_path / "moved")
    config = short_config(classifier, tiny_data, tmp_path / "moved", mesh=second)

    def restored(config) -> dict[str, np.ndarray]:
        run = make_run(config)
        trainer = Loop(run, Path(config.output_dir))
        assert trainer.resumed == int(trainer.state.step) == 3
        trainer.close()
        assert {x.sharding.mesh.size for x in tree.flatten(trainer.state.params).values()} == {run.mesh.size}
        return tree.unstack(trainer.state.params)

    copy_run_at(3, tmp_path / "whole", tmp_path / "same")
    there = restored(config)
    here = restored(short_config(classifier, tiny_data, tmp_path / "same", mesh=first))
    for name, x in here.items():
        np.testing.assert_array_equal(there[name], x, err_msg=name)
    train(config)
    rows, expected = journal(tmp_path / "moved"), journal(tmp_path / "whole")
    assert [row["step"] for row in rows] == [row["step"] for row in expected] == list(range(1, 8))
    np.testing.assert_allclose([r["loss"] for r in rows], [r["loss"] for r in expected], rtol=1e-5)


def test_a_restored_state_is_the_only_copy_on_devices(classifier, tiny_data, tmp_path, monkeypatch):
    """When a checkpoint is read, at the start or for the best model, the devices have no other state."""
    run = make_run(short_config(classifier, tiny_data, tmp_path, plan={"preset": "last_n", "n": 1}))
    state, frozen = fresh_state(run)
    checkpoints = Checkpoints(tmp_path, keep=9)
    checkpoints.save_frozen(run, frozen)
    for step in (1, 2):
        checkpoints.save(replace(state, step=np.int32(step) + state.step), EvaluationState(best_step=1, best_score=0.5))
    checkpoints.close()
    frozen_bytes, state_bytes = (sum(x.nbytes for x in jax.tree.leaves(tree)) for tree in (frozen, state.opt_state))
    del state, frozen, checkpoints
    others, found, restore = {id(x) for x in jax.live_arrays()}, [], Checkpoints.restore

    def seen(self, step, like):
        found.append((step, sum(x.nbytes for x in jax.live_arrays() if id(x) not in others)))
        return restore(self, step, like)

    monkeypatch.setattr(Checkpoints, "restore", seen)
    trainer = Loop(run, tmp_path)
    assert trainer.select() == 1
    trainer.close()
    assert [step for step, _ in found] == [2, 1]
    assert all(frozen_bytes <= size < frozen_bytes + state_bytes / 2 for _, size in found), (
        found,
        frozen_bytes,
        state_bytes,
    )


def test_frozen_parameters_are_restored_from_the_run(tiny_data, tmp_path, classifier):
    model = tmp_path / "model"
    shutil.copytree(classifier, model)
    config = short_config(model, tiny_data, tmp_path / "run", plan={"preset": "head"})
    train(config)
    copy_run_at(3, tmp_path / "run", tmp_path / "copy")
    shutil.rmtree(model)
    tiny.write_model(model, labels=tiny.LABELS, seed=5)
    train(short_config(model, tiny_data, tmp_path / "copy", plan={"preset": "head"}))
    assert (tmp_path / "copy" / MODEL).read_bytes() == (tmp_path / "run" / MODEL).read_bytes()
    other, _ = open_weights(model)
    kept, _ = open_weights(tmp_path / "run" / "model")
    name = "bert.encoder.layer.0.output.dense.weight"
    assert not np.array_equal(other[name], kept[name])


def test_another_config_is_refused_and_harmless_changes_are_not(tiny_model, tiny_data, tmp_path):
    from jaxft.run import rundir

    def config(**sections):
        return tiny.run_config(tiny_model, tiny_data, tmp_path / "run", **sections)

    assert not rundir.check_claim(config())
    rundir.claim(config(), {})
    assert rundir.check_claim(config())
    assert rundir.check_claim(config(mesh={"data": 8}, log={"every": 1}, checkpoint={"keep": 7}, data={"prefetch": 5}))
    for changed in (
        {"seed": 1},
        {"optim": {"learning_rate": 1e-3}},
        {"train": {"batch_size": 8}},
        {"plan": {"preset": "head"}},
        {"checkpoint": {"select": "last"}},
        {"checkpoint": {"every": 2}},
    ):
        with pytest.raises(UserError, match="holds another run, which differs in"):
            rundir.check_claim(config(**changed))


def test_rewind_drops_incomplete_later_and_final_rows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 1}, {"step": 2, "loss": 0.5}, {"step": 2, "eval/loss": 0.25}]
    kept = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(kept + '{"step": 3}\n{"step": 2, "final": true}\n{"step": 2, "lo')
    rewind(path, 2)
    assert path.read_text() == kept
    rewind(path, 1)
    assert path.read_text() == '{"step": 1}\n'
    rewind(tmp_path / "none.jsonl", 1)
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize(
    "bad",
    [b"\xff\xfe", b"null", b"[1]", b"7", b'{"step": "3"}', b'{"step": null}', b"[" * 10**5, b'{"step": %s}' % (b"9" * 5000)],
    ids=["bytes", "null", "list", "number", "text", "no step", "brackets", "digits"],
)
def test_a_line_that_is_not_a_row_is_dropped(tmp_path, bad):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "note": "\xe2\x80\xa8"}\n' + bad + b'\n{"step": 2}\n')
    rewind(path, 2)
    assert path.read_bytes() == b'{"step": 1, "note": "\xe2\x80\xa8"}\n{"step": 2}\n'


def test_only_complete_checkpoints_count(tmp_path):
    (tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp" / "state").write_text("half")
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.latest() is None
    assert checkpoints.steps() == []
    checkpoints.close()
