"""Two processes on this machine, as two hosts of a cluster: each feeds its own rows, one writes."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.support import tiny


def losses(directory):
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row], [row for row in rows if row.get("final")]


@pytest.mark.slow
def test_two_processes_train_as_one(tiny_model, tiny_data, tmp_path):
    from jaxft import cli

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
