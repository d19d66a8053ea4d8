"""The cache of compiled programs: one folder for all workers, sessions and subprocesses; `make clean` removes it.

JAX names a program by its text, its options and the version of jaxlib. The name of the folder adds the version of JAX, the
flags and the processor, because a program that is compiled for one processor may not run on another.
"""

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import jax

from tests.support import ROOT


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else [platform.processor()]
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _folder() -> Path:
    named = [version("jax"), version("jaxlib"), os.environ.get("XLA_FLAGS", ""), _processor()]
    return CACHE / hashlib.sha256("\n".join(named).encode()).hexdigest()[:16]


CACHE = Path(os.environ.get("JAXFT_TEST_CACHE") or ROOT / ".test_cache")
FOLDER = _folder()


def use_cache() -> None:
    """Read programs from the folder and write new ones there, also in processes that tests start."""
    settings = {"jax_compilation_cache_dir": str(FOLDER), "jax_persistent_cache_min_compile_time_secs": 0.0}
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
