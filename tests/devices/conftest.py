"""Two processes on this machine that act as two hosts of a cluster."""

import subprocess

import pytest

from jaxft.config import cli
from tests.support import tiny
from tests.support.clusters import end_processes, start_processes


@pytest.fixture
def two(tiny_model, tiny_data, tmp_path):
    """A function that starts the first `count` of two processes of a run, with options for `each`, and returns them."""
    started = []

    def start(
        *argv: str, folders: tuple = (tmp_path, tmp_path), each: tuple = ((), ()), count: int = 2, **sections
    ) -> list[subprocess.Popen]:
        sections = {"mesh": {"data": -1}, "runtime": {"distributed": "auto"}, "model": tiny.NO_DROPOUT, **sections}
        (tmp_path / "two.yaml").write_text(cli.dump(tiny.run_config(tiny_model, tiny_data, tmp_path / "two", **sections)))
        options = [[*argv, *own] for own in each]
        started.extend(start_processes(tmp_path / "two.yaml", count, of=2, each=options, folders=folders))
        return started

    yield start
    end_processes(started)
