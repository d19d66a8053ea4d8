"""Applies the faults of faults.py, one at a time, to a copy of the project, and records which test catches each.

    python -m tests.mutants              # all of them
    python -m tests.mutants NAME ...     # only these
    python -m tests.mutants --near ...   # only likely files of the default tier: quick, and no final word
    python -m tests.mutants --first FILE --  NAME ...   # begin with a file where you expect the catch

Tests of the default tier come first: files that mention what the fault breaks, then those that import the changed module,
then all. If they pass, the slow tests follow in the same order. The first failure ends the search. The results go into
results.json, and from there into the table of docs/mutants.md.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants import table
from tests.mutants.fault import Fault
from tests.mutants.faults import FAULTS
from tests.support import ROOT, SHARED
from tests.support.programs import CACHE

RESULTS = Path(__file__).with_name("results.json")
TIERS = {"default": "not slow", "slow": "slow"}
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.MULTILINE)


def copy_project(folder: Path) -> Path:
    """Copy the files that git tracks or would track, beside a link to the shared data."""
    project = folder / "main"
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in done.stdout.splitlines():
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    if SHARED.is_dir():
        (folder / "shared").symlink_to(SHARED)
    return project


def imports(path: Path, module: str) -> bool:
    """Whether a file imports a module, such as jaxft.optim.named, or names from its package."""
    package = module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            if module in names or (package != "jaxft" and node.module == package):
                return True
    return False


def likely(fault: Fault) -> list[list[str]]:
    """Test files to begin with: those with most of the fault's rare words, then all that import its module."""
    texts = {p: p.read_text(encoding="utf-8").lower() for p in sorted((ROOT / "tests").rglob("test_*.py"))}
    texts = {path: text for path, text in texts.items() if path.parent.name != "project"}
    module = fault.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    words = {word for word in re.findall(r"[a-z]{4,}", f"{fault.name} {fault.breaks} {module}".lower()) if word != "jaxft"}
    files_with = {word: sum(word in text for text in texts.values()) for word in words}

    def score(path: Path) -> float:
        return sum(1 / files_with[word] for word in words if word in texts[path])

    importing = [path for path in texts if imports(path, module)]
    first = sorted(texts, key=lambda path: -score(path) - (path in importing))[:6]
    return [[str(path.relative_to(ROOT)) for path in files] for files in (first, importing)]


def first_failure(project: Path, environment: dict[str, str], files: list[str], tier: str) -> str | None:
    """The first test of a tier that fails, in these files or in all of them."""
    command = [sys.executable, "-m", "pytest", "-x", "-m", TIERS[tier], "-p", "no:cacheprovider", "-rfE", *files]
    command += [] if files else ["-n2", "--dist=loadfile", "--no-loadscope-reorder"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode in (0, 5):  # 5: these files have no test of this tier
        return None
    found = FAILED.search(done.stdout)
    return found[1] if found else f"pytest ends with {done.returncode}: {(done.stdout + done.stderr)[-300:]}"


def search(fault: Fault, near: bool, first: list[str]) -> dict[str, str | None]:
    """The first test that catches a fault, and its tier; `near` looks in the likely files of the default tier.

    `first` are files to begin with.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        project = copy_project(Path(folder))
        path = project / fault.file
        text = path.read_text(encoding="utf-8")
        if text.count(fault.old) != 1:
            sys.exit(f"{fault.name}: its text stands {text.count(fault.old)} times in {fault.file}, must be once")
        path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        if CACHE.is_dir():  # a copy: the programs of a fault are of no use to others
            shutil.copytree(CACHE, Path(folder) / "cache")
        environment = {**os.environ, "JAXFT_TEST_CACHE": f"{folder}/cache"}
        for tier in ["default"] if near else TIERS:
            likeliest, importing = likely(fault)
            for files in [first or likeliest, *([] if near else [likeliest, importing, []])]:  # [] are all
                if test := first_failure(project, environment, files, tier):
                    return {"caught_by": test, "tier": tier}
    return {"caught_by": None, "tier": None}


def main() -> None:
    """Look for every fault, record the results, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *(fault.name for fault in FAULTS)], metavar="NAME")
    parser.add_argument("--near", action="store_true", help="only likely files of the default tier")
    parser.add_argument("--first", nargs="*", default=[], metavar="FILE", help="begin with these test files")
    arguments = parser.parse_args()
    for fault in FAULTS:
        if arguments.names and fault.name not in arguments.names:
            continue
        start = time.perf_counter()
        found = search(fault, arguments.near, arguments.first)
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        results[fault.name] = found
        ordered = {x.name: results[x.name] for x in FAULTS if x.name in results}
        RESULTS.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")
        print(f"{time.perf_counter() - start:5.0f} s  {fault.name}: {found['tier']}, {found['caught_by']}", flush=True)
    table.write(RESULTS)


if __name__ == "__main__":
    main()
