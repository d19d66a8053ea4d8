"""Files that one process makes for all that share a folder. Processes are threads that share the boards of a service."""

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jaxft.core import distributed, written_once
from jaxft.core.errors import UserError
from jaxft.core.written_once import OneWriter


class Service:
    """The boards of all processes."""

    def __init__(self):
        self.texts, self.down = defaultdict(dict), False

    def of(self, number: int) -> Callable[[str], Any]:
        service = self

        class Board:
            def __init__(self, name):
                self.name = name

            def write(self, text):
                service.texts[self.name][number] = text

            def read(self):
                if service.down:
                    raise ConnectionError("UNAVAILABLE")
                return dict(service.texts[self.name])

        return Board


class Processes:
    """Processes whose cache folders are `folders`; each makes what it is asked for and notes it."""

    def __init__(self, folders: list[Path]):
        self.service = Service()
        self.folders, count = folders, len(folders)
        self.writers = [OneWriter(number, count, self.service.of(number)) for number in range(count)]
        self.made: list[tuple[int, str]] = []
        self.faults: dict[int, BaseException] = {}
        self.cannot_write: set[int] = set()

    def call(self, number: int, name: str) -> str:
        path = self.folders[number] / name

        def make() -> tuple[str, bool]:
            self.made.append((number, name))
            if number in self.faults:
                raise self.faults[number]
            text, written = f"{name} of {number}", number not in self.cannot_write
            if written:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return text, written

        return self.writers[number](path, lambda: path.read_text() if path.is_file() else None, make)

    def all(self, *names: str) -> list[Any]:
        """What each gets that asks for a name, the same or its own; or its error."""

        with ThreadPoolExecutor(len(self.folders)) as pool:
            calls = [pool.submit(self.call, number, names[number % len(names)]) for number in range(len(self.folders))]
        return [call.exception() or call.result() for call in calls]


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(distributed, "PATIENCE", 0.3)
    monkeypatch.setattr(written_once, "POLL", 0.001)


def test_one_process_makes_for_all_that_share_a_folder(tmp_path):
    shared = Processes([tmp_path] * 3)
    assert shared.all("a") == ["a of 0"] * 3
    assert shared.all("b") == ["b of 0"] * 3
    assert shared.made == [(0, "a"), (0, "b")]
    assert shared.all("a") == ["a of 0"] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]  # no marks are left
    assert len(shared.made) == 2


def test_each_folder_has_its_own_writer(tmp_path):
    """Processes 0 and 2 are on one machine, 1, 3 and 4 on another."""
    here, there = tmp_path / "here", tmp_path / "there"
    apart = Processes([here, there, here, there, there])
    assert apart.all("a") == ["a of 0", "a of 1", "a of 0", "a of 1", "a of 1"]
    assert sorted(apart.made) == [(0, "a"), (1, "a")]


def test_who_finds_it_waits_for_nobody(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    apart = Processes([here, there, there])
    there.mkdir()
    (there / "a").write_text("before")
    assert apart.all("a") == ["a of 0", "before", "before"]
    assert apart.made == [(0, "a")]


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("")
    alone = Processes([tmp_path / "file" / "cache"] * 2)
    alone.cannot_write = {0, 1}
    assert alone.all("a") == ["a of 0", "a of 1"]


def test_those_that_wait_make_it_if_the_writer_could_not_write(tmp_path):
    full = Processes([tmp_path] * 3)
    full.cannot_write = {0}
    found = full.all("a")
    assert found[0] == "a of 0"
    assert {number for number, _ in full.made} == {0, 1, 2}
    assert found[1:] == ["a of 1", "a of 2"]


def test_an_error_of_the_writer_is_one_of_those_that_wait(tmp_path):
    failing = Processes([tmp_path] * 3)
    failing.faults = {0: UserError("a.csv: row 3 is 99 tokens long")}
    assert [type(x) for x in failing.all("a")] == [UserError] * 3
    assert {str(x) for x in failing.all("a")} == {"a.csv: row 3 is 99 tokens long"}
    failing.faults = {0: KeyboardInterrupt()}
    assert [type(x) for x in failing.all("b")] == [KeyboardInterrupt, UserError, UserError]
    assert {number for number, _ in failing.made} == {0}


def test_processes_with_other_content_do_not_wait(tmp_path):
    other = Processes([tmp_path] * 2)
    assert other.all("a", "b") == ["a of 0", "b of 1"]


def test_a_process_that_waits_ends_when_the_service_is_gone(tmp_path):
    lost = Processes([tmp_path] * 2)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lost.call, 1, "a")
        lost.service.down = True
        assert isinstance(call.exception(10), ConnectionError)
