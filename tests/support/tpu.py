"""libtpu for tests, which compiles TPU programs and needs no TPU."""

import importlib.util
import os
import sys
from pathlib import Path

# `make test` puts libtpu here, not among the packages: a JAX that finds it there looks for a TPU before it takes the CPU.
_BESIDE = Path(sys.prefix) / "libtpu"
MISSING = not _BESIDE.is_dir() and importlib.util.find_spec("libtpu") is None


def environment() -> dict[str, str]:
    """For a process that compiles."""
    path = os.pathsep.join([str(_BESIDE), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
