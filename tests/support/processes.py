"""Python code in a new process, with a user's settings."""

import json
import os
import subprocess
import sys
from typing import Any


def fresh_process(code: str, **environment: str) -> Any:
    """The JSON that `code` prints last in a new process on CPU, without the tests' settings of XLA and its cache."""
    inherited = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS" and not k.startswith(("JAX_COMP", "JAX_PERSIST"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
