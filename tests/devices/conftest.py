"""Two processes on this machine that act as two hosts of a cluster."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from jaxft.config import cli
from tests.support import ROOT, tiny


@pytest.fixture
def two(tiny_model, tiny_data, tmp_path):
    """A function that starts the first `count` of two processes of a run, with options for `each`, and returns them."""
    started = []

    def start(
        *argv: str, folders: tuple = (tmp_path, tmp_path), each: tuple = ((), ()), count: int = 2, **sections
    ) -> list[subprocess.Popen]:
        sections = {"mesh": {"data": -1}, "runtime": {"distributed": "auto"}, "model": tiny.NO_DROPOUT, **sections}
        (tmp_path / "two.yaml").write_text(cli.dump(tiny.run_config(tiny_model, tiny_data, tmp_path / "two", **sections)))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        # A new process would ignore the signals that this one ignores (SIGHUP under nohup, SIGINT in the background).
        before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGHUP, signal.SIGINT)}
        for number, folder in enumerate(folders[:count]):
            cluster = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(number)}
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "jaxft.train", str(tmp_path / "two.yaml"), *argv, *each[number]],
                    env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | cluster,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=folder,
                )
            )
        for each, handler in before.items():
            signal.signal(each, handler)
        return started

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()
