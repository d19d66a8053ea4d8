"""jobs/slurm.sbatch passes signals on to the tasks, and puts the job back into the queue only if it was interrupted."""

import os
import re
import signal
import sys

import pytest

from jaxft.config import cli
from tests.support import tiny
from tests.support.launchers import JOBS, StandIns, wait_for

JOB = "77"
REQUEUED = f"scontrol requeue {JOB}"
PASSED_ON = f"scancel --signal=TERM {JOB}"


@pytest.fixture
def cluster(tmp_path):
    (tmp_path / "state").write_text("RUNNING\n")
    return StandIns(tmp_path, SLURM_JOB_ID=JOB, SLURM_NTASKS="2", ATTEMPTS="3")


def begin(cluster, *argv):
    """The batch script of a job whose tasks wait for a signal."""
    cluster.plan("wait wait", "0 0")
    script = cluster.start("slurm.sbatch", *argv)
    wait_for(lambda: all((cluster.folder / f"waiting.{number}").exists() for number in range(2)))
    return script


def test_what_the_job_asks_of_slurm():
    text = (JOBS / "slurm.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?", text, re.MULTILINE))
    assert "requeue" in options
    assert options["signal"] == "B:USR1@120"
    assert options["open-mode"] == "append"
    assert options["ntasks-per-node"] == "1"
    assert "gpus-per-task" not in options


def test_a_task_sees_all_gpus_of_its_node(cluster):
    cluster.plan("0 0")
    (cluster.folder / "bin" / "trainer").write_text('#!/bin/sh\necho "gpus $JAX_LOCAL_DEVICE_IDS $*"')
    code, told = cluster.run("slurm.sbatch", "a.yaml", SLURM_GPUS_ON_NODE="4")
    assert code == 0, told
    assert told.splitlines() == ["gpus 0,1,2,3 -m jaxft.train a.yaml --runtime.distributed on"] * 2
    code, told = cluster.run("slurm.sbatch", "--dry-run", "a.yaml", PYTHON="python")
    assert told.strip() == "srun --kill-on-bad-exit=0 python -m jaxft.train a.yaml --runtime.distributed on"


def test_before_the_time_limit_the_tasks_save_and_the_job_is_queued_again(cluster):
    script = begin(cluster, "a.yaml")
    script.send_signal(signal.SIGUSR1)
    told = script.communicate(timeout=60)[0]
    assert script.returncode == 143, told
    assert cluster.log()[2:] == [PASSED_ON, REQUEUED]


def test_a_job_that_its_user_stops_is_not_queued_again(cluster):
    script = begin(cluster, "a.yaml")
    script.send_signal(signal.SIGUSR2)
    told = script.communicate(timeout=60)[0]
    assert script.returncode == 143, told
    assert cluster.log()[2:] == [PASSED_ON]


@pytest.mark.parametrize(
    ("codes", "state", "starts_before", "ended", "requeued"),
    [
        ("0 0", "RUNNING", 0, 0, False),
        ("134 137", "RUNNING", 0, 137, True),
        ("2 2", "RUNNING", 0, 2, False),
        ("134 2", "RUNNING", 0, 2, False),  # the error, not what follows from it
        ("143 143", "COMPLETING", 0, 143, False),  # cancelled
        ("137 137", "RUNNING", 2, 137, False),  # the third of three starts
    ],
)
def test_only_an_interrupted_job_is_queued_again(cluster, codes, state, starts_before, ended, requeued):
    cluster.plan(codes)
    (cluster.folder / "state").write_text(f"{state}\n")
    code, told = cluster.run("slurm.sbatch", "a.yaml", SLURM_RESTART_COUNT=str(starts_before))
    assert (code, cluster.log()[2:]) == (ended, [REQUEUED] * requeued), told
    assert not list(cluster.folder.glob("*.error"))


@pytest.mark.slow
def test_a_job_that_is_queued_again_resumes(cluster, tiny_model, tiny_data, tmp_path):
    """Two tasks on this machine find each other through the variables of Slurm."""
    job = str(os.getpid())  # JAX makes the port of it, between 61,440 and 65,535
    sections = {"mesh": {"data": -1}, "runtime": {"distributed": "auto"}, "model": tiny.NO_DROPOUT}
    train = {"max_steps": 10**6, "batch_size": 16}
    more = {"train": train, "log": {"every": 1, "progress": False}, "eval": {"every": "end"}}
    config = tiny.run_config(tiny_model, tiny_data, tmp_path / "run", **sections, **more)
    (tmp_path / "a.yaml").write_text(cli.dump(config))
    rows = tmp_path / "run" / "metrics.jsonl"
    seen = 0
    for number, goes_on in ((signal.SIGUSR1, True), (signal.SIGUSR2, False)):
        script = cluster.start("slurm.sbatch", "a.yaml", PYTHON=sys.executable, SLURM_JOB_ID=job)
        wait_for(lambda: script.poll() is not None or (rows.exists() and rows.stat().st_size > seen), 300)
        script.send_signal(number)
        told = script.communicate(timeout=300)[0]
        assert script.returncode == 143, told
        assert ("back into the queue" in told) == goes_on
        assert ("resuming at step" in told) == (not goes_on)
        seen = rows.stat().st_size
    assert "2 process(es)" in told
