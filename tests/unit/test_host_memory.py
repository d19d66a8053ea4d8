"""When a run keeps freed memory for its next step, and when it returns it to the system."""

import subprocess
import sys

import pytest

from jaxft.core import host_memory
from tests.support.processes import fresh_process

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
    """Events around the calls of a program; `busy` says for each call whether other work is running."""
    events: list[str] = []
    monkeypatch.setattr(host_memory, "release_freed_memory", lambda: events.append("release"))
    monkeypatch.setattr(host_memory, "temporary_bytes", lambda _: size)
    states = iter(busy)
    calls = host_memory.ReusedBlock(lambda: next(states))
    for number in range(len(busy)):
        events.append(f"call {number}")
        calls.before_call(calls_of, lambda: events.append("wait"))
    return events


def test_freed_memory_is_released_while_others_allocate_and_once_after(monkeypatch):
    events = calls_of(monkeypatch, [True, True, False, False, True, False])
    by_call = "|".join(events).split("call ")[1:]
    assert ["release" in x for x in by_call] == [True, True, True, False, True, True]
    assert all("wait" in x for x in by_call)  # two blocks of temporaries never exist at once


def test_freed_memory_is_released_after_an_evaluation(monkeypatch):
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
def test_glibc_tells_whether_a_block_is_free():
    """Only after it is freed, for its size or less, and until it is released."""
    output = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["False"] * 3 + ["True", "True", "False", "False"]


@pytest.mark.parametrize(("free_at", "times"), [(0, 0), (3, 3), (None, 5)])
def test_a_call_waits_until_the_block_of_the_previous_one_is_free(monkeypatch, free_at, times):
    """Or for a limited time: a fragmented block never looks free."""
    slept, asked = [], []
    monkeypatch.setattr(host_memory, "release_freed_memory", lambda: None)
    monkeypatch.setattr(host_memory, "temporary_bytes", lambda _: host_memory.LARGE)
    monkeypatch.setattr(host_memory.time, "sleep", slept.append)
    monkeypatch.setattr(host_memory, "PATIENCE", 1e-3 / host_memory.LARGE)
    monkeypatch.setattr(host_memory, "is_free", lambda size: asked.append(size) or len(asked) - 1 == free_at)
    calls = host_memory.ReusedBlock(lambda: False)
    calls.before_call(calls_of, lambda: None)
    assert asked == []  # there was no previous call
    calls.before_call(calls_of, lambda: None)
    assert set(asked) == {host_memory.LARGE}
    assert len(slept) == times
    assert sum(slept) <= 1.0001e-3


@pytest.mark.parametrize("size", [8, 512])
def test_temporary_bytes_of_a_program(size):
    import jax
    import jax.numpy as jnp

    x = jnp.ones((size, size))
    program = jax.jit(lambda x: jnp.sort(x @ x) @ x).lower(x).compile()
    assert host_memory.temporary_bytes(program) >= (x.nbytes if jax.default_backend() == "cpu" else 0)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_large_blocks_are_reused_in_every_thread():
    """XLA runs steps in its own threads; every new mapping of a block would cost a page fault per 4 KB."""
    found = fresh_process(
        """
import ctypes, json, resource, threading
from jaxft.core import host_memory
host_memory.keep_freed_memory()
libc, size, faults = ctypes.CDLL("libc.so.6"), 2**27, []
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = [ctypes.c_size_t]

def work():
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = libc.malloc(size)
        ctypes.memset(block, 1, size)
        libc.free(block)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(json.dumps(faults))
"""
    )
    assert max(found[1:]) < 100 < found[0]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
@pytest.mark.parametrize("kept", [True, False])
def test_blocks_of_any_size_are_kept(kept):
    """The heap does not shrink when a block of 3 GiB, which is never touched, is freed.

    Without the call, after an import of jaxft alone, such a block is mapped outside the heap and unmapped.
    """
    found = fresh_process(
        f"""
import ctypes, json
import jaxft
from jaxft.core import host_memory
{"host_memory.keep_freed_memory()" if kept else ""}
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = libc.sbrk.argtypes = [ctypes.c_size_t]
ends = [libc.sbrk(0)]
block = libc.malloc(3 * 2**30)
ends.append(libc.sbrk(0))
libc.free(block)
ends.append(libc.sbrk(0))
print(json.dumps(ends))
"""
    )
    assert found[1] == found[2] > found[0] + 2**31 if kept else len(set(found)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_is_released_after_a_run():
    """Also free blocks in front of one that is in use."""
    found = fresh_process(
        """
import ctypes, json
from pathlib import Path
from jaxft.core import host_memory
host_memory.keep_freed_memory()
libc, size = ctypes.CDLL("libc.so.6"), 2**27
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = [ctypes.c_size_t]

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / size

sizes = [resident()]
blocks = [libc.malloc(size), libc.malloc(2**20)]
ctypes.memset(blocks[0], 1, size)
libc.free(blocks[0])
sizes.append(resident())
host_memory.release_freed_memory()
sizes.append(resident())
print(json.dumps(sizes))
"""
    )
    before, kept, after = found
    assert kept > before + 0.9
    assert after < before + 0.1
