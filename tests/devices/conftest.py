"""Processes on this machine that act as the hosts of a cluster."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from jaxft.config import cli
from tests.support import ROOT, tiny


@pytest.fixture
def cluster(tmp_path):
    """A function that starts processes of a cluster and returns them.

    Its arguments are those of Python; `count` processes, of which the first `started` are started, with `devices` each.
    `folders`, `each` and `variables` are their working directories, further arguments and environments.
    """
    all_started = []

    def start(
        *argv: str,
        count: int = 2,
        started: int | None = None,
        devices: int = 1,
        folders: Sequence[Path] | None = None,
        each: Sequence[Sequence[str]] | None = None,
        variables: Sequence[Mapping[str, str]] | None = None,
    ) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        # A new process would ignore the signals that this one ignores (SIGHUP under nohup, SIGINT in the background).
        before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGINT)}
        common = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices)}
        common |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)} if count > 1 else {}
        hosts = []
        for number in range(count if started is None else started):
            own = {"JAX_PROCESS_ID": str(number), **(variables[number] if variables else {})}
            hosts.append(
                subprocess.Popen(
                    [sys.executable, *argv, *(each[number] if each else ())],
                    env=common | own,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=folders[number] if folders else tmp_path,
                )
            )
        for number, handler in before.items():
            signal.signal(number, handler)
        all_started.extend(hosts)
        return hosts

    yield start
    for process in all_started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture
def finish(cluster):
    """A function that starts processes as `cluster` does, and returns what each has written once all have succeeded."""

    def run(*argv: str, **options) -> list[tuple[str, str]]:
        hosts = cluster(*argv, **options)
        told = [host.communicate(timeout=600) for host in hosts]
        assert [host.returncode for host in hosts] == [0] * len(hosts), told
        return told

    return run


@pytest.fixture
def two(cluster, tiny_model, tiny_data, tmp_path):
    """A function that starts the first `count` of two processes of a run, with options for `each`; returns all so far."""
    all_started = []

    def start(
        *argv: str, folders: tuple = (tmp_path, tmp_path), each: tuple = ((), ()), count: int = 2, **sections
    ) -> list[subprocess.Popen]:
        sections = {"mesh": {"data": -1}, "runtime": {"distributed": "auto"}, "model": tiny.NO_DROPOUT, **sections}
        (tmp_path / "two.yaml").write_text(cli.dump(tiny.run_config(tiny_model, tiny_data, tmp_path / "two", **sections)))
        command = ["-m", "jaxft.train", str(tmp_path / "two.yaml"), *argv]
        all_started.extend(cluster(*command, started=count, folders=folders, each=each))
        return all_started

    return start
