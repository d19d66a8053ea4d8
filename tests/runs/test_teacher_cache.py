"""A teacher that runs once: the same bits whoever computed its outputs, and the steps do not contain it."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxft import teach
from jaxft.config import cli
from jaxft.core import lock
from jaxft.core.errors import UserError
from jaxft.plan import summary
from jaxft.preflight.costs import step_costs
from jaxft.run.setup import make_run
from jaxft.step.distillation import live_teacher
from jaxft.teacher_cache import forward, layout, place, store
from jaxft.teacher_cache.choice import choose
from jaxft.teacher_cache.fill import taught
from jaxft.train import train
from jaxft.training.loop import Loop
from tests.support import tiny
from tests.support.resuming import MODEL, assert_journals_close, journal

COMPUTES = "the teacher computes its outputs"


def configure(model, data, output, teacher, /, **sections):
    """A run of 2 epochs of 7 steps with a teacher."""
    sections["model"] = {"path": str(model), **tiny.NO_DROPOUT, **sections.get("model", {})}
    distill = {"teacher": str(teacher), **sections.pop("distill", {})}
    defaults = {"data": {"validation": None}, "checkpoint": {"every": 3, "keep": 9}}
    return tiny.run_config(model, data, output, **(defaults | sections), distill=distill)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    """A few steps of the teacher, each of which is committed."""
    monkeypatch.setattr(layout, "TOKENS", 256)
    monkeypatch.setattr(store, "SECONDS", 0.0)


@pytest.fixture(scope="module")
def filled(tiny_model, tiny_data, classifier, tmp_path_factory) -> Path:
    """A finished run that has filled the cache `cache` beside it."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "TOKENS", 256)
        patch.setattr(store, "SECONDS", 0.0)
        train(configure(tiny_model, tiny_data, folder / "run", classifier, distill={"cache_dir": str(folder / "cache")}))
    return folder


class Killed(BaseException):
    """The process ends here."""


def dies_after(parts):
    """`FolderWriter.append` of a process that is killed at the part after these."""
    append, left = store.FolderWriter.append, iter(range(parts))

    def killed(self, values, done):
        if next(left, None) is None:
            raise Killed
        append(self, values, done)

    return killed


def test_a_run_that_finds_the_outputs_ends_with_the_bits_of_the_run_that_computed_them(
    filled, tiny_model, tiny_data, classifier, tmp_path, capsys, monkeypatch
):
    config = configure(tiny_model, tiny_data, tmp_path / "run", classifier, distill={"cache_dir": str(filled / "cache")})
    monkeypatch.setattr(forward, "outputs", None)
    train(config)
    said = capsys.readouterr().err
    assert "the teacher runs once, before training" in said
    assert f"the teacher's outputs for 100 examples (1,200 bytes) are in {filled / 'cache'}" in said
    assert COMPUTES not in said
    assert (tmp_path / "run" / MODEL).read_bytes() == (filled / "run" / MODEL).read_bytes()
    assert journal(tmp_path / "run") == journal(filled / "run")


def test_a_run_that_is_killed_while_it_computes_them_ends_with_the_same_bits(
    filled, tiny_model, tiny_data, classifier, tmp_path, capsys, monkeypatch
):
    config = configure(tiny_model, tiny_data, tmp_path / "run", classifier, distill={"cache_dir": str(tmp_path / "cache")})
    with monkeypatch.context() as patch:
        patch.setattr(store.FolderWriter, "append", dies_after(2))
        with pytest.raises(Killed):
            train(config)
    assert not store.looks_complete(tmp_path / "cache", 100)
    capsys.readouterr()
    train(config)
    said = capsys.readouterr().err
    steps = lines(filled / "cache" / store.PROGRESS)
    assert f"{COMPUTES} for {100 - steps[1]['done']} examples" in said
    assert f"{steps[1]['done']} of which were there" in said
    assert (tmp_path / "cache/logits.bin").read_bytes() == (filled / "cache/logits.bin").read_bytes()
    assert (tmp_path / "run" / MODEL).read_bytes() == (filled / "run" / MODEL).read_bytes()


def lines(path):
    return store._lines(path)


def test_it_differs_from_a_teacher_in_every_step_by_rounding_alone(
    filled, tiny_model, tiny_data, classifier, tmp_path, capsys
):
    train(configure(tiny_model, tiny_data, tmp_path / "run", classifier, distill={"cache": "off"}))
    assert "the teacher runs in every step, because distill.cache is off" in capsys.readouterr().err
    assert_journals_close(journal(tmp_path / "run"), journal(filled / "run"), rel=1e-4)


def test_a_teacher_whose_outputs_are_there_is_never_on_the_device(
    filled, tiny_model, tiny_data, classifier, tmp_path, monkeypatch
):
    config = configure(tiny_model, tiny_data, tmp_path / "run", classifier, distill={"cache_dir": str(filled / "cache")})
    run = make_run(config)
    loop = Loop(run, tmp_path / "run")
    assert loop.frozen.teachers == {}
    monkeypatch.setattr("jaxft.teacher_cache.fill.sharding.place_params", None)
    loop.train()
    loop.close()


def test_the_plan_counts_a_step_without_the_teacher(tiny_model, tiny_data, classifier, tmp_path):
    """Three forward passes; a teacher of the student's size would be a fourth."""
    run = make_run(configure(tiny_model, tiny_data, tmp_path / "run", classifier))
    [[cost]] = step_costs(run).values()
    assert 2.9 < cost.flops / cost.forward < 3.1


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"train": {"epochs": 1}}, "there is one epoch"),
        ({"augment": {"steps": [{"step": "delete"}]}}, "augment.steps changes the texts in every epoch"),
        (
            {"distill": {"matches": [{"match": "value_relation"}]}},
            "distill.matches compares its attention values, which take too much disk space",
        ),
    ],
)
def test_the_log_says_why_the_teacher_runs_in_every_step(tiny_model, tiny_data, classifier, tmp_path, sections, why):
    config = configure(tiny_model, tiny_data, tmp_path / "run", classifier, **sections)
    run = make_run(config)
    assert any(line.startswith(f"the teacher runs in every step, because {why}") for line in summary(run))
    asked = replace(run, config=replace(config, distill=replace(config.distill, cache="on")))
    if "train" in sections:
        assert choose(asked).stored
    else:
        with pytest.raises(UserError, match=f"distill.cache on: the teacher must run in every step, because {why}"):
            choose(asked)


def test_outputs_for_every_example_are_those_of_the_teacher_in_a_batch(tiny_model, tiny_data, classifier, tmp_path):
    """On several devices, too."""
    sections = {"mesh": {"data": 4}, "distill": {"cache_dir": str(tmp_path / "cache")}}
    run = make_run(configure(tiny_model, tiny_data, tmp_path / "run", classifier, **sections))
    examples, _ = taught(run, choose(run).stored, run.data["train"].examples, lambda _: None)
    assert_those_of_the_teacher(run, examples)


def assert_those_of_the_teacher(run, examples):
    batches = run.sampler.epoch_batches(0)
    batch = {name: x[0] for name, x in batches.batch(examples, 0).items()}
    [teacher] = run.teachers
    params = SimpleNamespace(teachers={"teacher": teacher.params})
    expected = jax.jit(lambda b: live_teacher(teacher.model)(params, b))(batch)
    for name, x in expected.items():
        found, used = batch[f"teacher/{name}"], batch["weights"] > 0
        per = used if found.shape[:2] == used.shape and name == "logits" else batch["segment_ids"] > 0
        np.testing.assert_allclose(found[per], np.asarray(x)[per], rtol=1e-4, atol=1e-5)


def test_the_command_fills_the_cache_and_scores_the_teacher(filled, tiny_model, tiny_data, classifier, tmp_path, capsys):
    config = configure(tiny_model, tiny_data, tmp_path / "run", classifier, data={}, train={"epochs": 1})
    path = tmp_path / "config.yaml"
    path.write_text(cli.dump(config))
    argv = [str(path), f"--distill.cache_dir={tmp_path / 'cache'}"]
    teach.main(argv)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("the teacher's outputs for 100 examples (1,200 bytes) took ")
    assert told[1].startswith(f"{classifier} on {tiny_data / 'dev.csv'} (validation): accuracy ")
    assert (tmp_path / "cache/logits.bin").read_bytes() == (filled / "cache/logits.bin").read_bytes()
    assert not (tmp_path / "run").exists()
    teach.main(argv)
    assert capsys.readouterr().out.splitlines()[0].endswith(f"are in {tmp_path / 'cache'}")


# What is wrong with a cache, or special


@pytest.fixture
def opened(tiny_model, tiny_data, classifier, tmp_path):
    """A run with a cache of its own, and what `taught` gives for it."""

    def open_cache(**distill):
        distill = {"cache_dir": str(tmp_path / "cache")} | distill
        run = make_run(configure(tiny_model, tiny_data, tmp_path / "run", classifier, distill=distill))
        said: list[str] = []
        examples, lines = taught(run, choose(run).stored, run.data["train"].examples, said.append)
        return np.asarray(examples.columns["teacher/logits"]), said + lines

    return open_cache


def test_keep_logits_keeps_the_largest(filled, tmp_path, opened):
    values, _ = opened(keep_logits=1)
    whole = np.fromfile(filled / "cache/logits.bin", np.float32).reshape(100, 3)
    np.testing.assert_array_equal(values[:, 0], whole.max(1))
    files = {path.name: path.stat().st_size for path in (tmp_path / "cache").glob("*.bin")}
    assert files == {"logits.bin": 400, "logits.labels.bin": 200, "logits.rest.bin": 400}


@pytest.mark.parametrize("name", ["logits.bin", store.PROGRESS])
def test_damaged_outputs_are_computed_again(filled, tmp_path, opened, name):
    shutil.copytree(filled / "cache", tmp_path / "cache")
    path = tmp_path / "cache" / name
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(bytes(content))
    values, said = opened()
    assert f"the teacher's outputs in {tmp_path / 'cache'} are damaged ({name}" in said[0]
    assert any(COMPUTES in line for line in said)
    assert values.tobytes() == (filled / "cache/logits.bin").read_bytes()
    assert COMPUTES not in "".join(opened()[1])


def test_a_directory_that_cannot_be_written_is_replaced_by_a_temporary_file(filled, tmp_path, opened, monkeypatch):
    def read_only(*_):
        raise UserError(f"output_dir {tmp_path / 'cache'}: cannot be written: Read-only file system")

    monkeypatch.setattr(place.lock, "acquire", read_only)
    values, said = opened()
    assert said[0].startswith(f"{tmp_path / 'cache'} cannot be written (Read-only")
    assert "temporary file" in said[-1]
    assert values.tobytes() == (filled / "cache/logits.bin").read_bytes()
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix == ".bin"]
    # One that is complete is used all the same.
    shutil.copytree(filled / "cache", tmp_path / "cache", dirs_exist_ok=True)
    assert COMPUTES not in "".join(opened()[1])


def test_without_disk_space_nothing_is_written(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(place.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"cache: the teacher's outputs \(1,200 bytes\) cannot be written: 1,200 bytes are"):
        opened()


def test_a_disk_that_fills_is_an_error_and_what_is_there_is_used_later(filled, tmp_path, opened, monkeypatch):
    append, left = store.FolderWriter.append, iter(range(2))

    def full(self, values, done):
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        append(self, values, done)

    with monkeypatch.context() as patch:
        patch.setattr(store.FolderWriter, "append", full)
        with pytest.raises(UserError, match=r"cannot be written: No space left on device; give a directory on another"):
            opened()
    values, said = opened()
    assert "of which were there" in said[-1]
    assert values.tobytes() == (filled / "cache/logits.bin").read_bytes()


def test_another_run_that_writes_is_waited_for(filled, tmp_path, opened, monkeypatch):
    """And it is not computed again when that run has finished."""
    (tmp_path / "cache").mkdir()
    held = lock.acquire(tmp_path / "cache")

    def finished(_):
        shutil.copytree(filled / "cache", tmp_path / "cache", dirs_exist_ok=True)
        held.close()

    monkeypatch.setattr(place.time, "sleep", finished)
    values, said = opened()
    assert said[0] == f"another run writes the teacher's outputs into {tmp_path / 'cache'}: waiting for it"
    assert len(said) == 2
    assert values.tobytes() == (filled / "cache/logits.bin").read_bytes()


KILL = """
import os, signal, sys, time
from jaxft.config import cli
from jaxft.teacher_cache import layout, store
from jaxft.train import main
layout.TOKENS, store.SECONDS = 256, 0.0
append, left = store.FolderWriter.append, iter(range(int(sys.argv[1])))
def killed(self, values, done):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, values, done)
store.FolderWriter.append = killed
from jaxft.training.checkpoint import Checkpoints
after = int(sys.argv[2])
from jaxft.training.step_metrics import StepMetrics
send = StepMetrics.send
def sent(self, steps, *rest):
    if steps.stop == after:
        time.sleep(3)  # the checkpoint of step 6 is complete by then
        os.kill(os.getpid(), signal.SIGKILL)
    send(self, steps, *rest)
StepMetrics.send = sent
cli.run_main(main, sys.argv[3:])
"""


@pytest.mark.slow
def test_killed_processes_end_bit_identical(tiny_model, tiny_data, classifier, tmp_path):
    """With dropout; killed while the cache is filled, twice, and while the run trains."""

    def start(name, parts=1000, step=-1):
        distill = {"cache_dir": str(tmp_path / f"cache-{name}")}
        rates = {"dropout": 0.1, "attention_dropout": 0.1}
        config = configure(tiny_model, tiny_data, tmp_path / name, classifier, distill=distill, model=rates)
        path = tmp_path / f"{name}.yaml"
        path.write_text(cli.dump(config))
        argv = [sys.executable, "-c", KILL, str(parts), str(step), str(path)]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    whole = start("whole")
    assert whole.returncode == 0, whole.stderr
    for parts, step in ((1, -1), (2, -1), (1000, 8)):
        assert start("killed", parts, step).returncode == -signal.SIGKILL
    last = start("killed")
    assert last.returncode == 0, last.stderr
    assert "resuming at step 6" in last.stderr
    assert COMPUTES not in last.stderr
    assert (tmp_path / "killed" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    assert journal(tmp_path / "killed") == journal(tmp_path / "whole")
