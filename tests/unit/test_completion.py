"""The script of `jaxft completion` completes commands, options and values in a shell."""

import shutil
import subprocess

import pytest

from jaxft import completion
from jaxft.__main__ import COMMANDS
from tests.support.hostile import refused

TRY = """
try() { COMP_WORDS=("$@"); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMPREPLY=(); _shtab_jaxft; echo "${COMPREPLY[@]}"; }
try jaxft sus
try jaxft train --optim.sch
try jaxft train --optim.schedule cos
try jaxft predict --fea
try jaxft self_train --most
try jaxft hf run_n
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_shell_completes_commands_options_and_values(capsys):
    completion.main(["bash"])
    script = capsys.readouterr().out
    done = subprocess.run(["bash"], input=script + TRY, capture_output=True, text=True, check=True)
    expected = [
        "suspicious_labels",
        "--optim.schedule",
        "cosine cosine_restarts",
        "--features",
        "--most_per_class",
        "run_ner",
    ]
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_script_with_all_commands(shell, capsys):
    completion.main([shell])
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)


def test_an_unknown_shell_is_refused():
    refused(lambda: completion.main(["fish"]), "fish", "bash, zsh, tcsh")
