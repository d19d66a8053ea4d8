"""When a run gives the memory back that nothing uses."""

import subprocess
import sys

import pytest

from jaxft.core import host_memory

HELD = """
import ctypes
from jaxft.core import host_memory

host_memory.keep_freed_memory()
libc, size, found = host_memory._glibc(), 80 * 2**20, []
block = libc.malloc(size)
ctypes.memset(block, 1, size)
for _ in range(3):
    found.append(host_memory.is_free(size))
libc.free(block)
found += [host_memory.is_free(size), host_memory.is_free(size // 2), host_memory.is_free(2 * size)]
host_memory.release_freed_memory()
print(*found, host_memory.is_free(size))
"""


def calls_of(monkeypatch, busy: list[bool], size: int = host_memory.LARGE) -> list[str]:
    """What happens before calls of a program, one for every element of `busy`: is anything else at work then?"""
    events: list[str] = []
    monkeypatch.setattr(host_memory, "release_freed_memory", lambda: events.append("release"))
    monkeypatch.setattr(host_memory, "temporary_bytes", lambda _: size)
    states = iter(busy)
    calls = host_memory.ReusedBlock(lambda: next(states))
    for number in range(len(busy)):
        events.append(f"call {number}")
        calls.before_call(calls_of, lambda: events.append("wait"))
    return events


def test_free_memory_goes_back_while_others_allocate_and_once_after(monkeypatch):
    events = calls_of(monkeypatch, [True, True, False, False, True, False])
    by_call = "|".join(events).split("call ")[1:]
    assert ["release" in x for x in by_call] == [True, True, True, False, True, True]
    assert all("wait" in x for x in by_call)  # two blocks of temporaries are never there at once


def test_an_evaluation_counts_as_one_of_them(monkeypatch):
    events: list[str] = []
    monkeypatch.setattr(host_memory, "release_freed_memory", lambda: events.append("release"))
    monkeypatch.setattr(host_memory, "temporary_bytes", lambda _: host_memory.LARGE)
    calls = host_memory.ReusedBlock(lambda: False)
    for evaluated in (False, False, True):
        if evaluated:
            calls.mark_fragmented()
        calls.before_call(calls_of, lambda: None)
    assert len(events) == 2  # before the first and after the evaluation


def test_calls_with_little_memory_do_not_wait(monkeypatch):
    assert calls_of(monkeypatch, [True, False], host_memory.LARGE - 1) == ["call 0", "call 1"]


@pytest.mark.skipif(not host_memory._glibc(), reason="asks glibc")
def test_whether_a_block_is_free():
    """Not while it is held; then it is, also for less; more than there was never is, and nothing that was given back."""
    output = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["False"] * 3 + ["True", "True", "False", "False"]


@pytest.mark.parametrize(("free_at", "times"), [(0, 0), (3, 3), (None, 5)])
def test_a_call_begins_when_the_block_of_the_one_before_is_free(monkeypatch, free_at, times):
    """Or after a while: what has been cut up is not seen to be free."""
    slept, asked = [], []
    monkeypatch.setattr(host_memory, "release_freed_memory", lambda: None)
    monkeypatch.setattr(host_memory, "temporary_bytes", lambda _: host_memory.LARGE)
    monkeypatch.setattr(host_memory.time, "sleep", slept.append)
    monkeypatch.setattr(host_memory, "PATIENCE", 1e-3 / host_memory.LARGE)
    monkeypatch.setattr(host_memory, "is_free", lambda size: asked.append(size) or len(asked) - 1 == free_at)
    calls = host_memory.ReusedBlock(lambda: False)
    calls.before_call(calls_of, lambda: None)
    assert asked == []  # there was none
    calls.before_call(calls_of, lambda: None)
    assert set(asked) == {host_memory.LARGE}
    assert len(slept) == times
    assert sum(slept) <= 1.0001e-3


@pytest.mark.parametrize("size", [8, 512])
def test_temporaries_of_a_program(size):
    import jax
    import jax.numpy as jnp

    x = jnp.ones((size, size))
    program = jax.jit(lambda x: jnp.sort(x @ x) @ x).lower(x).compile()
    assert host_memory.temporary_bytes(program) >= (x.nbytes if jax.default_backend() == "cpu" else 0)
