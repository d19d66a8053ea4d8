"""jobs/tpu_vm.sh: the commands that it calls, and how babysit brings a run back; on stand-ins for gcloud and the workers."""

import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from jaxft.config import cli
from tests.support import tiny
from tests.support.launchers import JOBS, StandIns, wait_for

CREATED = ["gcloud queued-resources create"]
SET_UP = ["gcloud tpu-vm scp", "gcloud tpu-vm ssh"]
QUESTIONS = ("gcloud tpu-vm describe", "gcloud queued-resources describe", "gcloud tpu-vm ssh")


@pytest.fixture
def tpu(tmp_path):
    """Two workers; the processes that a test leaves on them are ended."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.yaml").touch()
    settings = {"CODE": str(tmp_path / "code"), "CONFIG": "a.yaml", "POLL": "0.1", "PAUSE": "0", "ATTEMPTS": "2"}
    yield StandIns(tmp_path, **settings)
    take_away(tmp_path)


def take_away(folder):
    """End the processes of the workers, as if their machines were gone."""
    for path in folder.glob("worker?/jaxft.pid"):
        try:
            os.kill(int(path.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            continue


def orders(tpu):
    """What was asked of Google except for questions."""
    return [line for line in tpu.log() if line.startswith("gcloud") and line not in QUESTIONS]


def starts(tpu):
    return sum("jaxft.train" in line for line in tpu.log())


def waits(tpu):
    return all((tpu.folder / f"waiting.{number}").exists() for number in range(2))


def test_dry_run_calls_nothing_and_shows_commands_that_can_be_copied(tpu):
    code, told = tpu.run("tpu_vm.sh", "--dry-run", "babysit", NAME="mine", NFS="10.0.0.2:/share", PROJECT="p", DATA=".")
    assert code == 0
    assert not tpu.log()
    assert "gcloud compute tpus queued-resources create mine --node-id=mine --accelerator-type=v5litepod-16" in told
    assert "sudo mount -t nfs 10.0.0.2:/share /mnt/jaxft" in told
    assert "-m jaxft.train a.yaml --output_dir /mnt/jaxft/runs/mine --runtime.distributed on" in told
    assert told.count("--project=p") == told.count("gcloud compute")
    copied = subprocess.run(["bash", "-n"], input=told, text=True, check=False, capture_output=True)
    assert copied.returncode == 0, copied.stderr
    code, told = tpu.run("tpu_vm.sh", "--dry-run", "create", QUEUED="0", SPOT="0")
    wanted = "create jaxft --accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite --zone=us-west4-a"
    assert told.strip() == f"gcloud compute tpus tpu-vm {wanted}"


def test_babysit_replaces_a_tpu_that_was_taken_away(tpu):
    tpu.plan("wait wait", "0 0")
    script = tpu.start("tpu_vm.sh", "babysit")
    wait_for(lambda: waits(tpu))
    take_away(tpu.folder)
    (tpu.folder / "queue").write_text("SUSPENDED\n")
    (tpu.folder / "tpu").write_text("PREEMPTED\n")
    told = script.communicate(timeout=60)[0]
    assert script.returncode == 0, told
    assert "the TPU is PREEMPTED: a new one" in told
    assert "done; the TPU is still there" in told
    again = ["gcloud queued-resources delete", *CREATED, "gcloud tpu-vm scp"]
    assert orders(tpu)[-3:] == again
    assert orders(tpu).count(CREATED[0]) == 2
    assert starts(tpu) == 4


@pytest.mark.parametrize(
    ("plan", "code", "said"),
    [
        (["143 143", "0 0"], 0, "the run was interrupted: run EXIT 143"),
        (["134 2", "0 0"], 2, "exit code 2: an error"),
        (["137 134", "137 134", "0 0"], 137, "2 tries: giving up"),
    ],
)
def test_babysit_starts_only_an_interrupted_run_again(tpu, plan, code, said):
    tpu.plan(*plan)
    ended, told = tpu.run("tpu_vm.sh", "babysit")
    assert ended == code, told
    assert said in told
    assert starts(tpu) == 2 * (1 if code == 2 else 2)
    assert CREATED[0] in orders(tpu)
    assert orders(tpu).count(CREATED[0]) == 1


def test_babysit_deletes_nothing_if_google_does_not_answer(tpu):
    tpu.plan("wait wait")
    for command in ("create", "setup", "start"):
        assert tpu.run("tpu_vm.sh", command)[0] == 0
    wait_for(lambda: waits(tpu))
    before = orders(tpu)
    (tpu.folder / "broken").write_text("ERROR: could not connect\n")
    script = tpu.start("tpu_vm.sh", "babysit")
    wait_for(lambda: not (tpu.folder / "broken").exists())
    code, told = tpu.run("tpu_vm.sh", "status")
    assert (code, told) == (0, "TPU jaxft: READY\nrun RUNNING\nrun RUNNING\n")
    assert tpu.run("tpu_vm.sh", "start")[1].count("the run is going on") == 2
    assert tpu.run("tpu_vm.sh", "stop")[0] == 0
    told = script.communicate(timeout=60)[0]
    assert script.returncode == 143, told
    assert "the TPU is UNKNOWN" in told
    assert "stopped; start resumes" in told
    assert orders(tpu) == before
    assert starts(tpu) == 2


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcloud"), reason="needs gcloud, whose own parser reads the commands")
def test_gcloud_knows_the_commands_and_their_flags(tpu, tmp_path):
    told = [tpu.run("tpu_vm.sh", "--dry-run", command)[1] for command in ("create", "delete", "setup", "status")]
    told.append(tpu.run("tpu_vm.sh", "--dry-run", "create", QUEUED="0")[1])
    told.append(tpu.run("tpu_vm.sh", "--dry-run", "delete", QUEUED="0")[1])
    commands = {line.split(" '")[0] for text in told for line in text.splitlines() if line.startswith("gcloud")}
    assert len(commands) >= 6
    for command in commands:
        check = ["gcloud", "meta", "lint-gcloud-commands", f"--command-string={command}"]
        environment = os.environ | {"CLOUDSDK_CONFIG": str(tmp_path)}
        done = subprocess.run(check, env=environment, capture_output=True, text=True, check=False)
        assert '"success": true' in done.stdout, f"{command}: {done.stdout[-500:]}{done.stderr}"


@pytest.mark.slow
def test_the_workers_train_together(tpu, tiny_model, tiny_data, tmp_path):
    sections = {"mesh": {"data": -1}, "model": tiny.NO_DROPOUT, "train": {"max_steps": 3, "batch_size": 16}}
    config = tiny.run_config(tiny_model, tiny_data, tmp_path / "unused", eval={"every": "end"}, **sections)
    (tmp_path / "code" / "a.yaml").write_text(cli.dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {"PYTHON": sys.executable, "OUTPUT_DIR": str(tmp_path / "run"), "POLL": "1"}
    code, told = tpu.run("tpu_vm.sh", "babysit", JAX_COORDINATOR_ADDRESS=address, **settings)
    assert code == 0, told
    assert "2 process(es)" in (tmp_path / "worker0" / "jaxft.log").read_text()
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert (JOBS / "tpu_vm.sh").stat().st_mode & 0o111
