"""When a run gives the memory back that nothing uses."""

import subprocess
import sys

import pytest

from jaxft import memory

HELD = """
import ctypes
from jaxft import memory

memory.keep()
libc, size, found = memory._glibc(), 80 * 2**20, []
block = libc.malloc(size)
ctypes.memset(block, 1, size)
for _ in range(3):
    found.append(memory.is_free(size))
libc.free(block)
found += [memory.is_free(size), memory.is_free(size // 2), memory.is_free(2 * size)]
memory.release()
print(*found, memory.is_free(size))
"""


def calls_of(monkeypatch, busy: list[bool], size: int = memory.LARGE) -> list[str]:
    """What happens before calls of a program, one for every element of `busy`: is anything else at work then?"""
    events: list[str] = []
    monkeypatch.setattr(memory, "release", lambda: events.append("release"))
    monkeypatch.setattr(memory, "temporaries", lambda _: size)
    states = iter(busy)
    calls = memory.Calls(lambda: next(states))
    for number in range(len(busy)):
        events.append(f"call {number}")
        calls.before(calls_of, lambda: events.append("wait"))
    return events


def test_free_memory_goes_back_while_others_allocate_and_once_after(monkeypatch):
    events = calls_of(monkeypatch, [True, True, False, False, True, False])
    by_call = "|".join(events).split("call ")[1:]
    assert ["release" in x for x in by_call] == [True, True, True, False, True, True]
    assert all("wait" in x for x in by_call)  # two blocks of temporaries are never there at once


def test_an_evaluation_counts_as_one_of_them(monkeypatch):
    events: list[str] = []
    monkeypatch.setattr(memory, "release", lambda: events.append("release"))
    monkeypatch.setattr(memory, "temporaries", lambda _: memory.LARGE)
    calls = memory.Calls(lambda: False)
    for evaluated in (False, False, True):
        if evaluated:
            calls.cut()
        calls.before(calls_of, lambda: None)
    assert len(events) == 2  # before the first and after the evaluation


def test_calls_with_little_memory_do_not_wait(monkeypatch):
    assert calls_of(monkeypatch, [True, False], memory.LARGE - 1) == ["call 0", "call 1"]


@pytest.mark.skipif(not memory._glibc(), reason="asks glibc")
def test_whether_a_block_is_free():
    """Not while it is held; then it is, also for less; more than there was never is, and nothing that was given back."""
    output = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["False"] * 3 + ["True", "True", "False", "False"]


@pytest.mark.parametrize(("free_at", "times"), [(0, 0), (3, 3), (None, 5)])
def test_a_call_begins_when_the_block_of_the_one_before_is_free(monkeypatch, free_at, times):
    """Or after a while: what has been cut up is not seen to be free."""
    slept, asked = [], []
    monkeypatch.setattr(memory, "release", lambda: None)
    monkeypatch.setattr(memory, "temporaries", lambda _: memory.LARGE)
    monkeypatch.setattr(memory.time, "sleep", slept.append)
    monkeypatch.setattr(memory, "PATIENCE", 1e-3 / memory.LARGE)
    monkeypatch.setattr(memory, "is_free", lambda size: asked.append(size) or len(asked) - 1 == free_at)
    calls = memory.Calls(lambda: False)
    calls.before(calls_of, lambda: None)
    assert asked == []  # there was none
    calls.before(calls_of, lambda: None)
    assert set(asked) == {memory.LARGE}
    assert len(slept) == times
    assert sum(slept) <= 1.0001e-3


@pytest.mark.parametrize("size", [8, 512])
def test_temporaries_of_a_program(size):
    import jax
    import jax.numpy as jnp

    x = jnp.ones((size, size))
    program = jax.jit(lambda x: jnp.sort(x @ x) @ x).lower(x).compile()
    assert memory.temporaries(program) >= (x.nbytes if jax.default_backend() == "cpu" else 0)
