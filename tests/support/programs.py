"""Where tests keep compiled programs: one folder for all workers, runs and processes; `make clean` removes it.

JAX names a program by its text, its options and the version of jaxlib. The folder is, besides, for one version of JAX, one
set of flags and one processor: what is compiled for one processor need not run on another.
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


def keep() -> None:
    """Take programs from the folder, and put all that are compiled there, also in processes that tests start."""
    settings = {"jax_compilation_cache_dir": str(FOLDER), "jax_persistent_cache_min_compile_time_secs": 0.0}
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
