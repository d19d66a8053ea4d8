"""The tiers of the suite: tests that are not marked slow are the default tier, in which no test may be slow.

`--part K/N` runs the K-th of N parts of the tests that are chosen otherwise. A test of the default tier that takes more than
LIMIT seconds fails the session and is named, unless programs were compiled: a test that compiles is slow only once.
Tests that are marked exhaustive take hours, and run only with `--exhaustive`, which runs nothing else.
"""

import resource
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import programs

LIMIT = 5.0
PROPERTY = "seconds"  # of set-up and call, each the smaller of wall-clock and processor time: others use the machine, too


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of parts and of exhaustive tests."""
    parser.addoption("--exhaustive", action="store_true", help="run the tests that take hours, and nothing else")
    parser.addoption("--part", metavar="K/N", help="run the K-th (from 0) of N parts of the tests")


def pytest_configure(config: pytest.Config) -> None:
    """Tests run in workers; the main process looks at their times."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Limit(programs.FOLDER))


def part_of(file: str, test: str, parts: int) -> int:
    """Which part a test belongs to: tests of a file with the same parameters share fixtures and stay together."""
    return zlib.crc32(f"{file}[{test.partition('[')[2]}".encode()) % parts


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Selects the exhaustive tests or the others, and of them those of the requested part."""
    wanted = config.getoption("exhaustive")
    keep_only(config, items, [item for item in items if bool(item.get_closest_marker("exhaustive")) == wanted])
    if not (given := config.getoption("part")):
        return
    part, parts = map(int, given.split("/"))
    if not 0 <= part < parts:
        raise pytest.UsageError(f"--part {given}: K counts from 0 to N - 1")
    keep_only(config, items, [item for item in items if part_of(item.path.name, item.name, parts) == part])


def keep_only(config: pytest.Config, items: list[pytest.Item], kept: list[pytest.Item]) -> None:
    """Deselect the other tests."""
    chosen = set(kept)
    if others := [item for item in items if item not in chosen]:
        config.hook.pytest_deselected(items=others)
        items[:] = kept


def _clocks() -> tuple[float, float]:
    """Seconds of the clock, and of the processor in this process and in those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime


def _measured(item: pytest.Item) -> Iterator[None]:
    start = _clocks()
    try:
        return (yield)
    finally:
        took = min(end - begin for end, begin in zip(_clocks(), start, strict=True))
        item.user_properties.append((PROPERTY, took))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Fixtures of a module count for the first test that needs them."""
    return (yield from _measured(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """The test itself."""
    return (yield from _measured(item))


class Limit:
    """The time of every test; fails a session in which one was too slow although nothing was compiled."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.before = self.programs()
        self.slow: dict[str, float] = {}

    def programs(self) -> int:
        """Compiled programs in the cache."""
        return sum(1 for _ in self.cache.iterdir()) if self.cache.is_dir() else 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called for the tests of all workers."""
        took = sum(x for name, x in report.user_properties if name == PROPERTY)
        if report.when == "call" and took > LIMIT and not {"slow", "exhaustive"} & set(report.keywords):
            self.slow[report.nodeid] = took

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Sets the exit status, before the summary."""
        if self.slow and self.programs() == self.before and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Names the slow tests."""
        if not self.slow:
            return
        warm = self.programs() == self.before
        terminalreporter.section(f"over {LIMIT:g} s" + ("" if warm else " (programs were compiled, so this is no failure)"))
        for name, took in sorted(self.slow.items(), key=lambda x: -x[1]):
            terminalreporter.line(f"{took:6.1f} s  {name}")
        if warm:
            terminalreporter.line("make these tests smaller, or mark them slow")
