"""Workers of pytest-xdist that crash: the session ends, names each test that crashed one, runs the others, and fails."""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling


class FileScheduling(LoadFileScheduling):
    """Gives whole files to workers, and the rest of a crashed worker's files to others.

    xdist 3.8 may wait for ever after a crash: it hands finished files to the new worker too, and only one file, although
    a worker begins a test only when it has another one or is told to stop. It also repeats the test that crashed.
    """

    def remove_node(self, node: Any) -> str | None:
        """Remove a worker; returns the test that crashed it, which will not be repeated."""
        files = self.assigned_work.pop(node)
        left = [(file, test) for file, tests in files.items() for test, finished in tests.items() if not finished]
        if not left:
            return None
        file, crashed = left[0]
        files[file][crashed] = True
        self.workqueue.update({file: tests for file, tests in files.items() if not all(tests.values())})
        for other in self.nodes:
            self._reschedule(other)
        return crashed

    def _reschedule(self, node: Any) -> None:
        if node not in self.registered_collections:  # a new worker that is still collecting
            return
        super()._reschedule(node)
        while self.workqueue and not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            self._assign_work_unit(node)


class Crashes:
    """Fails a session in which a worker crashed, even between tests. Lives in the main process."""

    def __init__(self) -> None:
        self.seen = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Called when a worker ends."""
        self.seen |= error is not None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Sets the exit status, before the summary."""
        if self.seen and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    """Only the main process sees workers end."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Crashes())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling | None:
    """The scheduler of `--dist loadfile`."""
    return FileScheduling(config, log) if config.getvalue("dist") == "loadfile" else None
