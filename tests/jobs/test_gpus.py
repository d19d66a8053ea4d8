"""jobs/gpus.sh starts one process per machine or per GPU, and starts a run again only if it was interrupted."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
import yaml

from jaxft.config import cli
from tests.support import ROOT, read_jsonl, tiny
from tests.support.launchers import StandIns, wait_for


@pytest.fixture
def machine(tmp_path):
    return StandIns(tmp_path, PAUSE="0", ATTEMPTS="3")


def test_dry_run_shows_the_processes_of_a_machine(machine):
    code, told = machine.run("gpus.sh", "--dry-run", "a.yaml", PYTHON="python")
    assert (code, told.strip()) == (0, "python -m jaxft.train a.yaml")
    several = {"MACHINES": "2", "MACHINE": "1", "PROCESSES": "2", "COORDINATOR": "one:8482", "PYTHON": "python"}
    code, told = machine.run("gpus.sh", "--dry-run", "a.yaml", **several)
    shared = "JAX_COORDINATOR_ADDRESS=one:8482 JAX_NUM_PROCESSES=4 JAX_PROCESS_ID"
    lines = [f"{shared}={2 + gpu} CUDA_VISIBLE_DEVICES={gpu} python -m jaxft.train a.yaml" for gpu in range(2)]
    assert [line.strip() for line in told.splitlines()] == lines
    assert not machine.log()


@pytest.mark.parametrize(
    ("plan", "code", "starts"),
    [
        (["143", "134", "0"], 0, 3),
        (["2", "0"], 2, 1),
        (["1", "0"], 1, 1),
        (["130", "0"], 130, 1),  # Ctrl-C
        (["137", "137", "137", "0"], 137, 3),
    ],
)
def test_only_an_interrupted_run_starts_again(machine, plan, code, starts):
    machine.plan(*plan)
    ended, told = machine.run("gpus.sh", "a.yaml")
    assert (ended, machine.log()) == (code, ["0 -m jaxft.train a.yaml"] * starts)
    assert ("giving up" in told) == (len(plan) > starts == 3)


def test_an_error_of_one_process_weighs_more_than_what_follows_from_it(machine):
    machine.plan("134 2", "0 0")
    assert machine.run("gpus.sh", "a.yaml", PROCESSES="2")[0] == 2
    assert sorted(machine.log()) == ["0 -m jaxft.train a.yaml", "1 -m jaxft.train a.yaml"]


def test_a_signal_to_the_script_ends_the_run_for_good(machine, tmp_path):
    machine.plan("wait wait", "0 0")
    script = machine.start("gpus.sh", "a.yaml", PROCESSES="2")
    wait_for(lambda: all((tmp_path / f"waiting.{number}").exists() for number in range(2)))
    script.send_signal(signal.SIGTERM)
    script.communicate(timeout=60)
    assert script.returncode == 143
    assert len(machine.log()) == 2


def test_skypilot_starts_it_on_each_node(machine, tmp_path):
    task = yaml.safe_load((ROOT / "jobs" / "skypilot.yaml").read_text())
    (tmp_path / "jaxft-venv" / "bin").mkdir(parents=True)
    (tmp_path / "jaxft-venv" / "bin" / "python").symlink_to(tmp_path / "bin" / "trainer")
    machine.plan("0 0")
    (tmp_path / "run.sh").write_text(task["run"])
    nodes = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"}
    code, told = machine.run(str(tmp_path / "run.sh"), cwd=ROOT, HOME=str(tmp_path), **task["envs"], **nodes)
    assert code == 0, told
    assert machine.log() == [f"1 -m jaxft.train {task['envs']['CONFIG']} --output_dir {task['envs']['OUTPUT_DIR']}"]
    assert (tmp_path / "coordinator.1").read_text() == "10.0.0.1:8482\n"
    assert task["resources"]["job_recovery"]["max_restarts_on_errors"] == 0
    assert task["envs"]["OUTPUT_DIR"].startswith(f"{next(iter(task['file_mounts']))}/")


@pytest.mark.slow
def test_a_run_that_one_process_loses_is_done_after_the_second_start(machine, tiny_model, tiny_data, tmp_path):
    sections = {"mesh": {"data": -1}, "runtime": {"distributed": "auto"}, "model": tiny.NO_DROPOUT}
    more = {"train": {"max_steps": 300, "batch_size": 16}, "log": {"every": 1, "progress": False}, "eval": {"every": "end"}}
    config = tiny.run_config(tiny_model, tiny_data, tmp_path / "run", **sections, **more)
    (tmp_path / "a.yaml").write_text(cli.dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    script = machine.start("gpus.sh", "a.yaml", PROCESSES="2", COORDINATOR=address, PYTHON=sys.executable)
    rows = tmp_path / "run" / "metrics.jsonl"
    wait_for(lambda: script.poll() is not None or (rows.exists() and rows.read_text()), 300)
    children = Path(f"/proc/{script.pid}/task/{script.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGTERM)
    told = script.communicate(timeout=300)[0]
    assert script.returncode == 0, told
    assert "exit code 143 at start 1 of 3" in told
    assert "resuming at step" in told
    steps = [row["step"] for row in read_jsonl(rows) if "loss" in row]
    assert steps == list(range(1, 301))
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
