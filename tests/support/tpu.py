"""libtpu for tests, which compiles TPU programs and needs no TPU."""

import importlib.util
import os
import sys
from pathlib import Path

# `make test` installs libtpu here, not among the packages: JAX would find it there and look for a TPU first.
_BESIDE = Path(sys.prefix) / "libtpu"
MISSING = not _BESIDE.is_dir() and importlib.util.find_spec("libtpu") is None


def environment() -> dict[str, str]:
    """The environment of a process that compiles for TPUs."""
    path = os.pathsep.join([str(_BESIDE), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
