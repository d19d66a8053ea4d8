"""Measure alternatives in turn, and store the rows of results with machine, versions and commit."""

import json
import os
import platform
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import versions

RESULTS = Path(__file__).resolve().parent / "results"
Row = dict[str, Any]


def in_turn(alternatives: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure every alternative once per round, so that changes of the machine affect all of them.

    The order differs from round to round (with a fixed seed), because the first of a round tends to be slower.
    """
    found: dict[str, list[float]] = {name: [] for name in alternatives}
    for number in range(rounds):
        for name in random.Random(number).sample(list(alternatives), len(alternatives)):
            found[name].append(alternatives[name]())
    return found


def timer(function: Callable[..., Any], *arguments: Any, calls: int = 1) -> Callable[[], float]:
    """Seconds per call of a function of JAX arrays, over several calls after a first one that compiles it."""
    import jax

    jax.block_until_ready(function(*arguments))

    def measure() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            found = function(*arguments)
        jax.block_until_ready(found)
        return (time.perf_counter() - start) / calls

    return measure


def compare(seconds: Mapping[str, list[float]], base: str) -> dict[str, Row]:
    """Seconds of each alternative, and its ratio to the base in the same round."""
    return {name: {"seconds": spread(x), "ratio": ratios(x, seconds[base])} for name, x in seconds.items()}


def spread(values: Iterable[float], digits: int = 4) -> Row:
    """Median and quartiles."""
    low, median, high = (float(f"{x:.{digits}g}") for x in np.percentile(list(values), [25, 50, 75]))
    return {"median": median, "quartiles": [low, high]}


def ratios(values: Iterable[float], base: Iterable[float]) -> Row:
    """Median and quartiles of the ratios to a base that was measured in the same rounds."""
    return spread(np.array(list(values)) / np.array(list(base)), 3)


def machine() -> Row:
    """The machine, the package versions and the commit."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions.installed(),
        "commit": commit(),
    }


def commit() -> str:
    """The commit of the code, with a + if files differ from it."""
    found = _git("rev-parse", "--short", "HEAD")
    return found + "+" * bool(found and _git("status", "--porcelain", "--", "jaxft", "benchmarks/*.py"))


def write(path: str | Path, content: Row) -> None:
    """Write a result file atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def add(path: str | Path, row: Row, *names: str) -> None:
    """Put a row into a result file; it replaces the row with the same values of the given names."""
    row = machine() | row
    old = [other for other in rows(path) if any(other.get(x) != row[x] for x in names)]
    write(path, {"rows": [*old, row]})


def read(path: str | Path) -> Row:
    """The content of a result file; {} if it does not exist."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def rows(path: str | Path) -> list[Row]:
    """The rows of a result file; none if it does not exist."""
    return read(path).get("rows", [])


def _git(*words: str) -> str:
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    units = [unit for unit in ("amx_tile", "avx512f", "avx2") if any(unit in line.split() for line in lines)]
    return f"{(names or [platform.processor()])[0]} ({', '.join(units[:1]) or platform.machine()})"
