"""Two processes on this machine act as two hosts of a cluster: each reads its own rows, one writes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from jaxft.config import cli
from tests.support import read_jsonl, tiny
from tests.support.resuming import MODEL, journal, wait_for_rows


def losses(directory):
    rows = read_jsonl(directory / "metrics.jsonl")
    return [row["loss"] for row in rows if "loss" in row], [row for row in rows if row.get("final")]


@pytest.mark.slow
def test_processes_without_a_shared_directory_are_refused(two, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    hosts = two("--output_dir", "run", folders=(tmp_path / "a", tmp_path / "b"))
    for host in hosts:
        told = host.communicate(timeout=300)[1]
        assert host.returncode == 2, told
        assert "output_dir run: processes 1 of 2 do not see what process 0 writes there" in told
    assert not [*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()]


@pytest.mark.slow
def test_an_error_of_the_main_process_ends_all(two, tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "other").touch()
    hosts = two()
    first, second = (host.communicate(timeout=300)[1] for host in hosts)
    assert [host.returncode for host in hosts] == [2, 2]
    assert "holds files but no config.yaml" in first
    assert "process 0 cannot begin" in second


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "number"), [(0, signal.SIGINT), (1, signal.SIGTERM), (1, signal.SIGHUP)])
def test_a_signal_ends_all_processes_with_one_checkpoint(two, tmp_path, asked, number):
    hosts = two(train={"max_steps": 10**6, "batch_size": 16}, log={"every": 1, "progress": False}, eval={"every": "end"})
    rows = tmp_path / "two" / "metrics.jsonl"
    wait_for_rows(rows, hosts)
    hosts[asked].send_signal(number)
    told = [host.communicate(timeout=300)[1] for host in hosts]
    codes = [host.returncode for host in hosts]
    assert codes[asked] == 128 + number, told
    assert codes[1 - asked] == 128 + signal.SIGTERM, told
    last = json.loads(rows.read_text().splitlines()[-1])["step"]
    assert all(f"stopped: step {last} is saved" in text for text in told)
    assert (tmp_path / "two" / "checkpoints" / str(last)).is_dir()


@pytest.mark.slow
def test_a_signal_to_one_process_ends_an_evaluation_of_all(two, tiny_data, tmp_path):
    """Within 10 seconds of an evaluation that takes longer; the run that goes on ends with the same model and rows."""
    header, *rows = (tiny_data / "dev.csv").read_text().splitlines()
    (tmp_path / "many.csv").write_text("\n".join([header, *rows * 500]))
    given = {"train": {"max_steps": 2, "batch_size": 16}, "log": {"every": 1, "progress": False}, "eval": {"every": 1}}
    given |= {"data": {"validation": str(tmp_path / "many.csv"), "layout": "pad"}, "checkpoint": {"every": "end"}}
    assert [host.wait(300) for host in two(**given)] == [0, 0]
    (tmp_path / "two").rename(tmp_path / "whole")
    hosts = two(**given)[2:]
    wait_for_rows(tmp_path / "two" / "metrics.jsonl", hosts)
    time.sleep(1)
    hosts[1].send_signal(signal.SIGTERM)
    begin = time.monotonic()
    told = [host.communicate(timeout=100)[1] for host in hosts]
    assert time.monotonic() - begin < 10
    assert [host.returncode for host in hosts] == [143, 143], told
    assert all("stopped: step 1 is saved" in text for text in told)
    assert not any("eval/loss" in row for row in journal(tmp_path / "two"))
    assert [host.wait(300) for host in two(**given)[4:]] == [0, 0]
    assert journal(tmp_path / "two") == journal(tmp_path / "whole")
    assert (tmp_path / "two" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()


CALLBACKS = """
import jax
import jaxft


class Events(jaxft.Callback):
    def on_start(self, run):
        self.events = [f"start {run.is_main_process}"]

    def on_step(self, step):
        self.events.append(f"step {step.number} {step.loss:.6f}")

    def on_log(self, row):
        self.events.append(f"log {row['step']}")

    def on_evaluation(self, evaluation):
        self.events.append(f"evaluation {evaluation.step}")

    def on_checkpoint(self, checkpoint):
        self.events.append(f"checkpoint {checkpoint.step}")

    def on_end(self, end):
        self.events.append(f"end {end.step}")
        with open(f"events-{jax.process_index()}", "w") as file:
            file.write(", ".join(self.events))


class Fails(jaxft.Callback):
    def on_step(self, step):
        if step.number == 3 and jax.process_index() == PROCESS:
            raise ValueError("enough")
"""


@pytest.mark.slow
def test_callbacks_are_called_in_every_process_and_the_main_one_writes(two, tmp_path):
    (tmp_path / "own_callbacks.py").write_text(CALLBACKS)
    train = {"max_steps": 3, "batch_size": 16, "callbacks": ["own_callbacks:Events"]}
    hosts = two(train=train, log={"every": 2, "progress": True}, eval={"every": 2}, checkpoint={"every": "end"})
    told = [host.communicate(timeout=300)[1] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], told
    main, other = ((tmp_path / f"events-{number}").read_text() for number in range(2))
    assert main.replace("start True", "start False") == other
    names = [" ".join(event.split()[:2]) for event in main.split(", ")]
    expected = ["start True", "step 1", "step 2", "log 2", "log 2", "evaluation 2", "checkpoint 2", "step 3", "log 3"]
    assert names == [*expected, "log 3", "evaluation 3", "checkpoint 3", "log 3", "end 3"]
    steps = [row["step"] for row in read_jsonl(tmp_path / "two" / "metrics.jsonl")]
    assert steps == [2, 2, 3, 3, 3]  # each row once
    assert json.loads((tmp_path / "two" / "times.json").read_text())["starts"] == 1
    assert ("goodput" in told[0], "goodput" in told[1]) == (True, False)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_callback_that_fails_in_one_process_ends_all_with_a_checkpoint(two, tmp_path, number):
    (tmp_path / "own_callbacks.py").write_text(CALLBACKS.replace("PROCESS", str(number)))
    train = {"max_steps": 9, "batch_size": 16, "callbacks": ["own_callbacks:Fails"]}
    hosts = two(train=train, log={"every": 1, "progress": False}, eval={"every": "end"}, checkpoint={"every": "end"})
    told = [host.communicate(timeout=300)[1] for host in hosts]
    assert [host.returncode for host in hosts] == [2, 2], told
    wrong = "callback Fails.on_step failed at step 3: ValueError: enough; step 4 is saved in"
    assert f"error: {wrong}" in told[number]
    assert f"error: process {number}: {wrong}" in told[1 - number]
    assert (tmp_path / "two" / "checkpoints" / "4").is_dir()


@pytest.mark.slow
def test_two_processes_train_as_one(tiny_model, tiny_data, tmp_path):
    config = tiny.run_config(
        tiny_model, tiny_data, tmp_path / "unused", train={"epochs": 1}, mesh={"data": -1}, runtime={"distributed": "auto"}
    )
    (tmp_path / "config.yaml").write_text(cli.dump(config))
    command = [sys.executable, "-m", "jaxft.train", str(tmp_path / "config.yaml"), "--output_dir"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    subprocess.run([*command, str(tmp_path / "one")], env=environment, check=True, capture_output=True, timeout=300)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    hosts = [
        subprocess.Popen(
            [*command, str(tmp_path / "two"), "--mesh.fsdp", "2"],
            env=environment | {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(number)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    errors = [host.communicate(timeout=300)[1] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], errors
    one, final_one = losses(tmp_path / "one")
    two, final_two = losses(tmp_path / "two")
    assert two == pytest.approx(one, rel=1e-5)
    assert len(final_two) == 1
    assert final_two[0]["eval/loss"] == pytest.approx(final_one[0]["eval/loss"], rel=1e-5)
    assert (tmp_path / "two" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_processes_keep_the_outputs_of_a_teacher(two, classifier, tmp_path, shared):
    """In one directory that the main process writes, or, on hosts that do not share it, in temporary files as well."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    folders = (tmp_path / "a", tmp_path / "a" if shared else tmp_path / "b")
    bits = []
    for run in ("filled", "found"):
        distill = {"teacher": str(classifier), "cache_dir": "cache"}
        hosts = two("--output_dir", str(tmp_path / run), folders=folders, distill=distill)[-2:]
        told = [host.communicate(timeout=300)[1] for host in hosts]
        assert [host.returncode for host in hosts] == [0, 0], told
        computed = run == "filled" or not shared
        assert ("the teacher computes its outputs for 100 examples, once" in told[0]) == computed, told
        assert "are in cache" in told[0]
        assert sorted(path.name for path in (tmp_path / "a/cache").iterdir()) == [
            "about.json",
            "logits.bin",
            "progress.jsonl",
        ]
        assert not (tmp_path / "b/cache").exists()
        bits.append((tmp_path / run / "model/model.safetensors").read_bytes())
    assert bits[0] == bits[1]


@pytest.mark.slow
def test_processes_save_by_the_clock_and_pass_over_damaged_checkpoints(two, tmp_path):
    options = {"train": {"max_steps": 6, "batch_size": 16}, "eval": {"every": "end"}}
    options["checkpoint"] = {"every": "0.00001 minutes", "keep": 9}

    def run(code: int) -> list[str]:
        hosts = two(**options)[-2:]  # it returns all that it has started
        told = [host.communicate(timeout=300)[1] for host in hosts]
        assert [host.returncode for host in hosts] == [code, code], told
        return told

    run(0)
    model = (tmp_path / "two/model/model.safetensors").read_bytes()
    folders = {int(path.name): path for path in (tmp_path / "two/checkpoints").iterdir()}
    assert len(folders) > 2
    for step in sorted(folders)[-2:]:
        (folders[step] / "state/manifest.ocdbt").write_bytes(b"")
    (tmp_path / "two/model/model.safetensors").unlink()
    told = run(0)
    assert "checkpoint of step 6 is passed over: checkpoints/6/state/manifest.ocdbt has 0 bytes" in told[0]
    assert (tmp_path / "two/model/model.safetensors").read_bytes() == model
    for path in (tmp_path / "two/checkpoints").glob("*/progress/metadata"):
        path.unlink()
    told = run(2)
    assert "none of its checkpoints is whole" in told[0]
    assert "see its message" in told[1]
