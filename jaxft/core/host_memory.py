"""What glibc does with memory that programs on the CPU leave: kept for the next call, given back where it would be cut up.

XLA:CPU asks malloc for one block of temporaries a call, often most of what a process holds, and frees it afterwards.
"""

import ctypes
import mmap
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

PATIENCE = 2e-11  # seconds a byte for which a call that is ready may still hold its temporaries, less than 2 % of its time
LARGE = 32 * 2**20  # bytes; glibc maps larger blocks by themselves unless told otherwise


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of giving them back to the kernel after every step.

    glibc maps blocks of 32 MB and more anew each time, and in every thread but the first blocks of 64 MB and more whatever
    it is told, unless all threads share the first one's arena; and the free end of its heap, once it is as long as the trim
    threshold, goes back whatever its use (-1: never). The page faults cost a quarter of a MiniLM step
    (benchmarks/alternatives.py).
    """
    if not (libc := _glibc()):
        return
    trim_threshold, mmap_max, arena_max = -1, -4, -8
    libc.mallopt(arena_max, 1)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, -1)


def release_freed_memory() -> None:
    """Give the kernel what nothing uses: nobody else can, since glibc keeps it (`keep`)."""
    if libc := _glibc():
        libc.malloc_trim(0)


class ReusedBlock:
    """Keeps what a process holds constant over calls of programs on the CPU: one block of temporaries, the largest.

    A call that begins when the results of the one before are ready may ask for its block before that one's is free, and
    then there are two; on a busy machine, in time, three. And while a compiler or a checkpoint in the background takes
    pieces from the free block between two calls, what is left is too short for the next one: that gets a new block, and
    the old one is kept as well. So a call with a large block begins when that of the one before is free; and as long as
    anything else is at work, and once after it, what is free is given back first, which costs the page faults of a step,
    a quarter of its time.

    Args of the constructor:
      busy: whether anything allocates beside the calls.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._cut = True  # what is free may be cut up
        self._sizes: dict[Any, int] = {}
        self._last = 0  # bytes of the block of the call before

    def cut(self) -> None:
        """Something else than calls has allocated: an evaluation, or the copies of a checkpoint."""
        self._cut = True

    def before(self, program: Any, wait: Callable[[], Any]) -> None:
        """To be called before a program; `wait` until the results of the call before are ready."""
        busy = self._busy()
        if program not in self._sizes:
            self._sizes[program] = temporary_bytes(program)
        if (size := self._sizes[program]) >= LARGE:
            wait()
            _wait_until_free(self._last)
            if busy or self._cut:
                release_freed_memory()
        self._cut, self._last = busy, size


def temporary_bytes(program: Any) -> int:
    """Bytes of a compiled program's temporaries in the process's own memory."""
    import jax

    analysis = program.memory_analysis() if jax.default_backend() == "cpu" else None
    return analysis.temp_size_in_bytes if analysis else 0


def _wait_until_free(size: int) -> None:
    """Until a block that a call has used is free again; not for ever, since that cannot be seen once it has been cut up."""
    pause, left = 5e-5, PATIENCE * size
    while left > 0 and not is_free(size):
        time.sleep(min(pause, left))
        pause, left = 2 * pause, left - pause


def is_free(size: int) -> bool:
    """Whether a block of so many bytes that was written to is free: then glibc gives it, and not fresh memory.

    Fresh memory is in no page until it is written to, so that to ask for it costs nothing; glibc's own count of what is in
    use (mallinfo2) takes 10 ms where the heap is in 60,000 pieces.
    """
    if not (libc := _glibc()):
        return True
    if not (block := libc.malloc(size)):
        return True
    try:
        return all(_in_memory(libc, block + size * quarter // 4) for quarter in (1, 2, 3))
    finally:
        libc.free(block)


def _in_memory(libc: Any, address: int) -> bool:
    found = ctypes.c_ubyte()
    page = address - address % mmap.PAGESIZE
    known = libc.mincore(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), ctypes.byref(found)) == 0
    return known and bool(found.value & 1)


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
