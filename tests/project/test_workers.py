"""When workers crash, a session of tests ends, names each test that crashed one, runs the others, and fails."""

import subprocess
import sys
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import ROOT
from tests.support.workers import FileScheduling

CONFIG: Any = SimpleNamespace(getvalue=lambda name: ["popen"] * 2, option=SimpleNamespace(loadscopereorder=False))


class Worker:
    """A worker as xdist's main process sees it: it runs a test if it has another one or is told to stop."""

    def __init__(self) -> None:
        self.state, self.queue, self.shutting_down = "starting", [], False
        self.gateway = SimpleNamespace(id="gw")

    def send_runtest_some(self, indices) -> None:
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def waits(self) -> bool:
        return self.state == "running" and len(self.queue) < 2 and not self.shutting_down


def run(sizes: list[int], crashing: set[int], rng: Random) -> tuple[list[str], list[str]]:
    """(tests that ended, tests that are named as crashed) of a session with two workers, as xdist's DSession runs it."""
    tests = [f"test_{i}.py::test_{j}" for i, size in enumerate(sizes) for j in range(size)]
    scheduler: Any = FileScheduling(CONFIG)
    workers = [Worker(), Worker()]
    ended, named, stopping = [], [], False
    while workers:
        able = [worker for worker in workers if not worker.waits]
        assert able, "all workers wait"
        worker = rng.choice(able)
        if worker.state == "starting":
            worker.state = "collecting"
            worker.shutdown() if stopping else scheduler.add_node(worker)
        elif worker.state == "collecting":
            worker.state = "running"
            if not stopping:
                scheduler.add_node_collection(worker, tests)
                if scheduler.collection_is_completed:
                    scheduler.schedule()
        elif not worker.queue:
            workers.remove(worker)
            assert worker not in scheduler.nodes or scheduler.remove_node(worker) is None
        elif (index := worker.queue.pop(0)) in crashing:
            workers[workers.index(worker)] = Worker()
            named.append(scheduler.remove_node(worker))
            assert len(named) <= len(crashing), "a test that crashed is repeated"
            stopping = False
        else:
            ended.append(tests[index])
            scheduler.mark_test_complete(worker, index)
        if scheduler.tests_finished and not stopping:
            stopping = True
            for node in scheduler.nodes:
                node.shutdown()
    return ended, named


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.sets(st.integers(0, 23), max_size=4), st.integers(0, 99))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_test_is_run_or_named_once(sizes, crashing, seed):
    crashing = {index for index in crashing if index < sum(sizes)}
    ended, named = run(sizes, crashing, Random(seed))
    tests = [f"test_{i}.py::test_{j}" for i, size in enumerate(sizes) for j in range(size)]
    assert sorted(named) == sorted(tests[index] for index in crashing)
    assert sorted(ended) == sorted(set(tests) - set(named))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("def test_first(): pass\n", "test_b.py::test_abort"),
        ("def pytest_collection_finish(session): 'gw0' in os.environ['PYTEST_XDIST_WORKER'] and os.abort()\n", "gw0"),
    ],
    ids=["in a test", "between tests"],
)
def test_a_session_with_a_crashed_worker_ends_and_fails(tmp_path, content, said):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_a.py").write_text("def test_a(): pass\n")
    abort = "def test_abort(): os.abort()\n" if "first" in content else ""
    (tmp_path / ("test_b.py" if abort else "conftest.py")).write_text(f"import os\n{content}{abort}")
    command = [sys.executable, "-m", "pytest", "-n2", "--dist=loadfile", "-p", "tests.support.workers", str(tmp_path)]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout
    assert said in done.stdout
