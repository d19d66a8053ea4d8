"""Messages that cannot be written end nothing, and go nowhere else."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from jaxft.config import cli
def main(argv):
    for _ in range(3):
        print("a message", file=sys.stderr, flush=True)
    assert not sys.stderr.isatty()
    open(argv[0], "w").write("done")
cli.run_main(main)
"""


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full", "2> >(exec 0<&-; sleep 0)"])
def test_a_command_ends_well_without_standard_error(how, tmp_path):
    command = f"{sys.executable} -c '{PROGRAM}' {tmp_path / 'out'} {how}"
    ended = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, env=os.environ, check=False)
    assert (ended.returncode, ended.stdout) == (0, b"")
    assert (tmp_path / "out").read_text() == "done"
