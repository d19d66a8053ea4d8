"""How glibc treats memory that programs on the CPU free: it is kept for the next call, and returned before it fragments.

XLA:CPU allocates one block of temporaries per call, often most of a process's memory, and frees it afterwards.
"""

import ctypes
import mmap
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

PATIENCE = 2e-11  # seconds per byte for which a finished call may still hold its temporaries: under 2 % of its time
LARGE = 32 * 2**20  # bytes; by default glibc maps larger blocks separately


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of returning them to the kernel after every step.

    By default glibc maps each block of 32 MB or more anew. In every thread but the first it does so from 64 MB on whatever
    the settings, unless all threads share the first thread's arena. It also returns the free end of its heap once that is
    as long as the trim threshold (-1: never). The page faults take a quarter of a MiniLM step (benchmarks/alternatives.py).
    """
    if not (libc := _glibc()):
        return
    trim_threshold, mmap_max, arena_max = -1, -4, -8
    libc.mallopt(arena_max, 1)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, -1)


def release_freed_memory() -> None:
    """Return unused memory to the kernel, which glibc does not do by itself after `keep_freed_memory`."""
    if libc := _glibc():
        libc.malloc_trim(0)


def release_after_reading() -> None:
    """Return to the kernel what reading and tokenising have freed, in glibc's heap and in the pool of Arrow."""
    if arrow := sys.modules.get("pyarrow"):
        arrow.default_memory_pool().release_unused()
    release_freed_memory()


class ReusedBlock:
    """Keeps a process's memory constant over calls of programs on the CPU: one block of temporaries, the largest.

    A call that begins as soon as the previous call's results are ready may allocate its block before the previous block is
    free. Then there are two blocks, and on a busy machine eventually three. If a compiler or a checkpoint in the background
    takes pieces of the free block between two calls, the rest is too short for the next call: it gets a new block, and the
    old one stays as well. So a call with a large block waits until the previous block is free. While anything else
    allocates (`busy` tells), and once afterwards, free memory is returned to the kernel first, which costs a step's page
    faults, a quarter of its time.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._fragmented = True  # the free memory may be fragmented
        self._sizes: dict[Any, int] = {}
        self._last = 0  # bytes of the previous call's block

    def mark_fragmented(self) -> None:
        """Note that something else has allocated memory: an evaluation, or the copies of a checkpoint."""
        self._fragmented = True

    def before_call(self, program: Any, wait: Callable[[], Any]) -> None:
        """Call this before a program; `wait` returns when the previous call's results are ready."""
        busy = self._busy()
        if program not in self._sizes:
            self._sizes[program] = temporary_bytes(program)
        if (size := self._sizes[program]) >= LARGE:
            wait()
            _wait_until_free(self._last)
            if busy or self._fragmented:
                release_freed_memory()
        self._fragmented, self._last = busy, size


def temporary_bytes(program: Any) -> int:
    """Bytes of host memory that a compiled program's temporaries take; 0 unless it runs on the CPU."""
    import jax

    analysis = program.memory_analysis() if jax.default_backend() == "cpu" else None
    return analysis.temp_size_in_bytes if analysis else 0


def _wait_until_free(size: int) -> None:
    """Wait until the block that a call has used is free, up to a limit: a fragmented block never appears to be free."""
    pause, left = 5e-5, PATIENCE * size
    while left > 0 and not is_free(size):
        time.sleep(min(pause, left))
        pause, left = 2 * pause, left - pause


def is_free(size: int) -> bool:
    """Whether a block of `size` bytes that was used before is free: glibc then returns it instead of fresh memory.

    Fresh memory has no pages until it is written to, so asking for it costs nothing. glibc's own count of memory in use
    (mallinfo2) takes 10 ms if the heap is in 60,000 pieces.
    """
    if not (libc := _glibc()) or not (block := libc.malloc(size)):
        return True
    try:
        return all(_is_resident(libc, block + size * quarter // 4) for quarter in (1, 2, 3))
    finally:
        libc.free(block)


def _is_resident(libc: Any, address: int) -> bool:
    residency = ctypes.c_ubyte()
    page = address - address % mmap.PAGESIZE
    known = libc.mincore(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), ctypes.byref(residency)) == 0
    return known and bool(residency.value & 1)


@cache
def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # not glibc
        return None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
