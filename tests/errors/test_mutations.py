"""Damaged copies of every kind of file are read or refused in one line; never a crash, a hang or much memory."""

import contextlib
import random
import resource
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxft.core.errors import LONG_TEXT, UserError
from tests.support.formats import FORMATS

SECONDS, BYTES = 10, 2 << 30
FEW, MANY, PARTS = 8, 250, 2  # mutations per kind of file: in the default tier, and in each of several slow tests


class TooLong(BaseException):
    """No handler of the package catches it."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Limits processor time and address space to what reading a file may take."""

    def stop(*_: object) -> None:
        raise TooLong

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, before[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def mutate(name: str, folder: Path, seeds: range) -> None:
    kind = FORMATS[name]
    path = kind.make(folder)
    good = path.read_bytes()
    kind.read(path)
    path.write_bytes(good)
    for seed in seeds:
        content = kind.damage(good, random.Random(f"{name} {seed}"))
        path.unlink()  # what is mapped keeps its bytes
        path.write_bytes(content)
        said = ""
        try:
            with limited(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kind.read(path)
        except UserError as error:
            said = str(error)
        except BaseException as error:
            raise AssertionError(f"{name}, seed {seed}: {type(error).__name__}: {str(error)[:200]}") from error
        assert len(said) <= LONG_TEXT + 10, seed


@pytest.mark.parametrize("name", FORMATS)
def test_a_few_mutations_are_read_or_refused(name, tmp_path):
    mutate(name, tmp_path, range(FEW))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", FORMATS)
def test_many_mutations_are_read_or_refused(name, part, tmp_path):
    mutate(name, tmp_path, range(FEW + part * MANY, FEW + (part + 1) * MANY))
