"""A process of a run that dies, hangs, never comes or was started in another way: the others say so and leave."""

import signal
import subprocess
import sys

import pytest

from jaxft.core.errors import RESTART
from tests.support import ROOT, read_jsonl
from tests.support.resuming import wait_for_rows

LONG = {
    "train": {"max_steps": 10**6, "batch_size": 16},
    "log": {"every": 1, "progress": False},
    "eval": {"every": "end"},
    "data": {"layout": "pad"},
}


def second_process(folder, body):
    """Options of train: a callback that runs a line of Python after each `step` of process 1."""
    (folder / "own.py").write_text(
        "import time, jax, jaxft\n"
        "class Own(jaxft.Callback):\n"
        "    def on_step(self, step):\n"
        "        if jax.process_index() == 1:\n"
        f"            {body}\n"
    )
    return {"callbacks": ["own:Own"]}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_hangs_ends_the_other(two, tmp_path, number):
    hosts = two("--runtime.heartbeat_timeout", "12", **LONG)
    wait_for_rows(tmp_path / "two" / "metrics.jsonl", hosts)
    hosts[1].send_signal(number)
    told = hosts[0].communicate(timeout=60)[1]
    assert hosts[0].returncode == RESTART, told
    last = told.splitlines()[-1]
    assert "nothing is heard of process 1 on" in last, told
    assert "the same command resumes" in last


@pytest.mark.slow
def test_a_run_that_hangs_shows_where(two, tmp_path):
    train = LONG["train"] | second_process(tmp_path, "if step.number == 3: time.sleep(1000)")
    hosts = two("--runtime.stall", "45", **LONG | {"train": train})
    told = [host.communicate(timeout=300)[1] for host in hosts]
    assert RESTART in {host.returncode for host in hosts}, told
    assert "process 1 on" in told[0], told
    assert any("own.py" in text and "in on_step" in text for text in told)


@pytest.mark.slow
def test_one_that_fails_ends_the_other(two, tmp_path):
    train = LONG["train"] | second_process(tmp_path, "if step.number == 3: raise KeyboardInterrupt")
    hosts = two("--runtime.heartbeat_timeout", "12", **LONG | {"train": train})
    told = [host.communicate(timeout=300)[1] for host in hosts]
    assert [host.returncode for host in hosts] == [2, 130], told
    assert "process 1 on" in told[0].splitlines()[-1]
    assert "has failed: KeyboardInterrupt" in told[0].splitlines()[-1]


@pytest.mark.slow
def test_a_slow_process_is_named(two, tmp_path):
    train = {"max_steps": 16, "batch_size": 16} | second_process(tmp_path, "time.sleep(0.5)")
    hosts = two(**LONG | {"train": train, "log": {"every": 4, "progress": False}})
    told = [host.communicate(timeout=300)[1] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], told
    assert "process 1 on" in told[0], told
    assert "is slow: data and callbacks take it 0." in told[0], told
    rows = [row for row in read_jsonl(tmp_path / "two" / "metrics.jsonl") if "slowest_process" in row]
    assert rows[-1]["slowest_process"] == 1
    assert rows[-1]["slowest_own_seconds"] > 0.2 > rows[-1]["median_own_seconds"]


@pytest.mark.slow
def test_processes_that_differ_are_refused(two):
    hosts = two(each=[["--train.batch_size", "16"], ["--train.batch_size", "32"]])
    for host in hosts:
        told = host.communicate(timeout=300)[1]
        assert host.returncode == 2, told
        assert "process 1 was started with train.batch_size 32, but process 0 with train.batch_size 16" in told


@pytest.mark.slow
def test_a_process_that_is_alone_says_whom_it_waits_for(two):
    (host,) = two("--runtime.start_timeout", "25", count=1)
    told = host.communicate(timeout=120)[1]
    assert host.returncode == RESTART, told
    assert "process 0 on" in told
    assert "waits for processes 1 to 1 to join at 127.0.0.1" in told
    assert told.splitlines()[-1].startswith("error: process 0 on")
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"JAX_COORDINATOR_ADDRESS": "nowhere"}, "JAX_COORDINATOR_ADDRESS is nowhere: must be HOST:PORT"),
        ({"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID is 2: must be 0 to 1, as JAX_NUM_PROCESSES is 2"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is 'two': must be a whole number"),
    ],
)
def test_variables_that_do_not_fit_are_refused(variables, words, monkeypatch, fails, tmp_path):
    known = {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}
    for name, value in (known | variables).items():
        monkeypatch.setenv(name, value)
    fails("train", ["--model.path", tmp_path, "--data.train", "a.csv", "--output_dir", tmp_path / "run"], words)


def test_a_port_that_is_taken_is_named(monkeypatch, fails, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        known = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}
        for name, value in known.items():
            monkeypatch.setenv(name, value)
        words = f"port {port} of JAX_COORDINATOR_ADDRESS cannot be used", "two processes have JAX_PROCESS_ID 0"
        fails("train", ["--model.path", tmp_path, "--data.train", "a.csv", "--output_dir", tmp_path / "run"], *words)


@pytest.mark.slow
def test_a_single_process_that_hangs_leaves(tiny_model, tiny_data, tmp_path):
    (tmp_path / "own.py").write_text(
        "import time, jaxft\nclass Sleeps(jaxft.Callback):\n    def on_step(self, step):\n        time.sleep(1000)\n"
    )
    options = {
        "model.path": tiny_model,
        "data.train": tiny_data / "train.csv",
        "output_dir": tmp_path / "run",
        "train.callbacks": '["own:Sleeps"]',
        "runtime.stall": 45,
        "data.max_length": 32,
    }
    command = [sys.executable, "-m", "jaxft.train", *(f"--{name}={value}" for name, value in options.items())]
    done = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == RESTART, done.stderr
    assert "nothing has happened for" in done.stderr
    assert "in on_step" in done.stderr
