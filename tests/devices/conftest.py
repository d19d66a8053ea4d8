"""Processes on this machine that act as the hosts of a cluster."""

import subprocess

import pytest

from jaxft.config import cli
from tests.support import tiny
from tests.support.clusters import end_processes, start_processes


@pytest.fixture
def cluster(tmp_path):
    """A function that starts processes of a cluster, as `start_processes` does, and returns them."""
    all_started = []

    def start(*argv: str, **options) -> list[subprocess.Popen]:
        hosts = start_processes(tmp_path, *argv, **options)
        all_started.extend(hosts)
        return hosts

    yield start
    end_processes(all_started)


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
