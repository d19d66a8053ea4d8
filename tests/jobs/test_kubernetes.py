"""jobs/gke_jobset.yaml and jobs/xpk.sh: the fields on which a run with several pods depends, and pods as processes."""

import os
import shlex
import socket
import subprocess
import sys

import pytest
import yaml

from jaxft.config import cli
from tests.support import ROOT, tiny
from tests.support.launchers import JOBS, StandIns

INTERRUPTED = [129, 134, 137, 142, 143]


@pytest.fixture
def jobset():
    return yaml.safe_load((JOBS / "gke_jobset.yaml").read_text())


def parts(jobset):
    """The one replicated job, its specification, the pod's, and the one container."""
    (job,) = jobset["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return job, job["template"]["spec"], pod, container


def variables(container, number):
    """The environment of the pod with this number."""
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    values = {}
    for variable in container["env"]:
        if "valueFrom" in variable:
            assert variable["valueFrom"] == {"fieldRef": {"fieldPath": index}}
        values[variable["name"]] = variable.get("value", str(number))
    return values


def test_all_pods_of_a_slice_run_at_once_and_know_each_other(jobset):
    job, spec, pod, container = parts(jobset)
    assert job["replicas"] == 1
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(variables(container, 0)["JAX_NUM_PROCESSES"])
    host, port = variables(container, 0)["JAX_COORDINATOR_ADDRESS"].split(":")
    name = jobset["metadata"]["name"]
    assert host == f"{name}-{job['name']}-0-0.{name}"
    assert {"containerPort": int(port)} in container["ports"]
    assert variables(container, 3)["JAX_PROCESS_ID"] == "3"
    assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"] for volume in pod["volumes"]]


def test_only_interrupted_pods_start_again(jobset):
    _, spec, pod, container = parts(jobset)
    (rule,) = spec["podFailurePolicy"]["rules"]
    codes = {"containerName": container["name"], "operator": "NotIn", "values": INTERRUPTED}
    assert rule == {"action": "FailJob", "onExitCodes": codes}
    policy = jobset["spec"]["failurePolicy"]
    assert policy["rules"] == [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}]
    assert policy["maxRestarts"] > 0
    assert (spec["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert pod["terminationGracePeriodSeconds"] >= 60
    assert container["command"] == ["python", "-m", "jaxft.train"]  # no shell, which would keep the signal to itself


def test_the_options_of_the_pods_exist(jobset):
    config, *options = parts(jobset)[3]["args"]
    assert (ROOT / config).is_file()
    assert cli.load([str(ROOT / config), *options]).runtime.distributed == "on"


def test_xpk_gets_one_command_that_takes_signals_itself(tmp_path):
    stand_ins = StandIns(tmp_path)
    code, told = stand_ins.run(
        "xpk.sh", "--dry-run", "create", "a.yaml", "--task.labels", "[a, b]", IMAGE="image", PROJECT="p"
    )
    assert code == 0
    words = shlex.split(told)
    assert words[:3] == ["xpk", "workload", "create"]
    options = dict(word.removeprefix("--").split("=", 1) for word in words[3:])
    assert int(options["max-restarts"]) > 0
    train = ["exec", "python", "-m", "jaxft.train", "a.yaml", "--task.labels", "[a, b]"]
    run = ["--output_dir", "/mnt/jaxft/runs/jaxft", "--runtime.distributed", "on"]
    assert shlex.split(options["command"]) == [*train, *run]
    code, told = stand_ins.run("xpk.sh", "--dry-run", "create", "a.yaml")
    assert "&& exec python -m jaxft.train a.yaml" in shlex.split(told)[-1]
    for command, word in (("list", "xpk"), ("logs", "kubectl"), ("delete", "xpk")):
        assert stand_ins.run("xpk.sh", "--dry-run", command)[1].startswith(word)
    assert stand_ins.run("xpk.sh", "create")[0] == 2


@pytest.mark.slow
def test_two_pods_train_together(jobset, tiny_model, tiny_data, tmp_path):
    """The container's command and variables, with one process for each pod and this machine for the first one's name."""
    container = parts(jobset)[3]
    sections = {"mesh": {"data": -1}, "model": tiny.NO_DROPOUT, "train": {"max_steps": 3, "batch_size": 16}}
    config = tiny.run_config(tiny_model, tiny_data, tmp_path / "unused", eval={"every": "end"}, **sections)
    (tmp_path / "a.yaml").write_text(cli.dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    own = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    kept = {name: os.environ.get(name, "") for name in ("JAX_COMPILATION_CACHE_DIR", "HF_HOME")}
    command = [sys.executable, *container["command"][1:], str(tmp_path / "a.yaml"), *container["args"][1:]]
    command = [word.replace("/mnt/jaxft/runs/banking77", str(tmp_path / "run")) for word in command]
    pods = [
        subprocess.Popen(
            command, env=os.environ | variables(container, number) | own | kept, stderr=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    told = [pod.communicate(timeout=300)[1] for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], told
    assert "2 process(es)" in told[0]
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
