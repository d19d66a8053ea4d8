"""A run that receives a signal saves its current step, says so, and resumes there exactly."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from jaxft.config import cli
from jaxft.core import signals
from jaxft.core.signals import Stopped, Watch
from jaxft.data.batching.batch_sampler import Shape
from jaxft.step.compilation import Compiled
from jaxft.train import train
from jaxft.training.journal import Journal
from tests.support.resuming import MODEL, journal, short_config


@pytest.fixture(autouse=True)
def _heard():
    """Default handlers: under nohup, or in the background of a shell, signals are ignored, and a run ignores them too."""
    usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def asked(monkeypatch):
    """Sends signals to this process in a step, as soon as its row is written."""

    def at(step: int, *numbers: int) -> None:
        log = Journal.on_step

        def and_ask(self, done):
            log(self, done)
            if done.number == step:
                for number in numbers:
                    os.kill(os.getpid(), number)

        monkeypatch.setattr(Journal, "on_step", and_ask)

    yield at
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_checkpoint(tiny_model, tiny_data, tmp_path, asked, monkeypatch, number):
    config = short_config(tiny_model, tiny_data, tmp_path / "run", plan={"preset": "head"}, eval={"every": "end"})
    asked(1, number)  # which is noticed when step 2 has begun
    with pytest.raises(Stopped, match=r"step 2 is saved in .*run; the same command resumes there") as stopped:
        train(config)
    assert stopped.value.number == number
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit()) == ["2"]
    assert [row["step"] for row in journal(tmp_path / "run")] == [1, 2]
    if number != signal.SIGTERM:
        return
    monkeypatch.undo()
    train(config)
    whole = short_config(tiny_model, tiny_data, tmp_path / "whole", plan={"preset": "head"}, eval={"every": "end"})
    train(whole)
    assert (tmp_path / "run" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    assert journal(tmp_path / "run") == journal(tmp_path / "whole")


def test_exit_codes_are_those_of_the_signals(capsys):
    def stop(_):
        raise Stopped(signal.SIGTERM, "stopped: step 2 is saved")

    def interrupt(_):
        raise KeyboardInterrupt

    def interrupt_run(_):
        with Watch():
            os.kill(os.getpid(), signal.SIGINT)

    saved = "stopped; the same command resumes from the last checkpoint, if there is one"
    cases = ((stop, 143, "stopped: step 2 is saved"), (interrupt, 130, "stopped"), (interrupt_run, 130, saved))
    for main, code, line in cases:
        with pytest.raises(SystemExit) as end:
            cli.run_main(main, [])
        assert end.value.code == code
        assert capsys.readouterr().err == f"{line}\n"


def test_a_signal_acts_after_the_step_or_at_once(monkeypatch, capfd):
    """At once before there is a step to save, otherwise after the step; a second Ctrl-C always acts at once."""
    left = []
    monkeypatch.setattr(signals.os, "_exit", left.append)
    for number, ends in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGHUP, Stopped)):
        with Watch(), pytest.raises(ends):
            os.kill(os.getpid(), number)
    with Watch() as watch:
        watch.arm()
        assert watch.heard() is None
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)  # a closing session sends several
        assert watch.heard() == signal.SIGHUP
        assert not left
        os.kill(os.getpid(), signal.SIGINT)
        assert left == [130]
        with pytest.raises(Stopped):  # too late for a step
            watch.disarm()
    assert "SIGHUP: a checkpoint follows this step" in capfd.readouterr().err


def test_signals_that_nohup_ignores_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Watch() as watch:
            watch.arm()
            os.kill(os.getpid(), signal.SIGHUP)
            assert watch.heard() is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def asked_in(monkeypatch):
    """Sends a SIGTERM to this process when a program runs for the nth time in an evaluation, from now on."""

    def at(batch: int) -> None:
        ready, calls = Compiled.ready, itertools.count(1)

        def and_ask(self, key, check=signals.nothing):
            if isinstance(key, Shape) and next(calls) == batch:
                os.kill(os.getpid(), signal.SIGTERM)
            return ready(self, key, check)

        monkeypatch.setattr(Compiled, "ready", and_ask)

    return at


EVALUATING = {
    "plan": {"preset": "head"},
    "data": {"layout": "pad"},
    "train": {"epochs": 1, "batch_size": 16, "patience": 1, "min_delta": 9.0},
    "eval": {"every": 3, "batch_size": 8},
    "checkpoint": {"every": 5, "keep": 1},
}


@pytest.mark.parametrize("batch", [2, 6])
def test_a_signal_ends_an_evaluation_which_comes_first_later(tiny_model, tiny_data, tmp_path, asked_in, monkeypatch, batch):
    """In the first evaluation, which is the best, and in the second one, after which training stops early."""
    whole, half = (short_config(tiny_model, tiny_data, tmp_path / name, **EVALUATING) for name in ("whole", "half"))
    train(whole)
    asked_in(batch)
    step = 3 if batch == 2 else 6
    with pytest.raises(Stopped, match=rf"step {step} is saved in .*half; the same command resumes there"):
        train(half)
    assert sum("eval/loss" in row for row in journal(tmp_path / "half")) == step // 3 - 1
    monkeypatch.undo()
    for _ in range(2):  # the second time only the evaluation after step 6, whose checkpoint is the last one
        train(half)
        assert (tmp_path / "half" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
        assert journal(tmp_path / "half") == journal(tmp_path / "whole")


def test_a_signal_ends_the_evaluation_at_the_end_at_once(tiny_model, tiny_data, tmp_path, asked_in):
    config = short_config(tiny_model, tiny_data, tmp_path / "run", plan={"preset": "head"}, eval={"every": "end"}, data={})
    asked_in(2)
    with pytest.raises(Stopped, match="the same command resumes from the last checkpoint"):
        train(config)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_receives_a_signal_saves_its_last_step(tiny_model, tiny_data, tmp_path, number):
    sections = {"train": {"max_steps": 10**6, "batch_size": 16}, "log": {"every": 1, "progress": False}}
    config = short_config(tiny_model, tiny_data, tmp_path / "run", checkpoint={"every": 10**6, "keep": 2}, **sections)
    (tmp_path / "c.yaml").write_text(cli.dump(config))
    command = [sys.executable, "-m", "jaxft.train", str(tmp_path / "c.yaml")]
    process = subprocess.Popen(command, env=os.environ | {"JAX_PLATFORMS": "cpu"}, stderr=subprocess.PIPE, text=True)
    rows = tmp_path / "run" / "metrics.jsonl"
    while not (rows.exists() and rows.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number, told
    last = json.loads(rows.read_text().splitlines()[-1])["step"]
    assert f"stopped: step {last} is saved in {tmp_path / 'run'}; the same command resumes there" in told.splitlines()[-1]
    assert (tmp_path / "run" / "checkpoints" / str(last)).is_dir()
