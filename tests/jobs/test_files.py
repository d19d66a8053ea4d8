"""The launch files can be read by what reads them, and docs/pods.md has a section for each."""

import re
import shutil
import subprocess

import pytest

from tests.support import ROOT
from tests.support.launchers import JOBS

SHELL = sorted([*JOBS.glob("*.sh"), *JOBS.glob("*.sbatch")])


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_a_shell_script_parses_and_says_how_it_is_called(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert path.stat().st_mode & 0o111
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert f"jobs/{path.name}" in text
    called = subprocess.run(["bash", str(path)], capture_output=True, text=True, check=False)
    assert called.returncode == 2
    assert f"jobs/{path.name}" in called.stderr


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck")
def test_shellcheck_finds_nothing():
    done = subprocess.run(["shellcheck", *map(str, SHELL)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_all_files_start_again_after_the_same_codes():
    """Those of the page, but for XPK, which has its own."""
    page = (ROOT / "docs" / "pods.md").read_text()
    again = {
        code
        for codes, answer in re.findall(r"^\| ([\d, ]+) \|.*\| (.*) \|$", page, re.MULTILINE)
        if answer[:3] == "yes"
        for code in codes.split(", ")
    }
    assert again == {"129", "134", "137", "142", "143"}
    for name in ("gpus.sh", "slurm.sbatch", "tpu_vm.sh", "gke_jobset.yaml"):
        text = (JOBS / name).read_text()
        (found,) = {frozenset(re.findall(r"\d+", each)) - {"0"} for each in re.findall(r"\b129[ ,|\d]+143\b", text)}
        assert found == again, name


def test_each_file_has_its_section():
    page = "".join((ROOT / "docs" / name).read_text() for name in ("pods.md", "serving.md"))
    for path in JOBS.iterdir():
        assert f"jobs/{path.name}" in page, path.name
