"""jaxft completion bash|zsh|tcsh: print a script with which the shell completes commands, options, values and files.

jaxft completion bash > ~/.local/share/bash-completion/completions/jaxft
jaxft completion zsh > "${fpath[1]}/_jaxft"
"""

import argparse
import contextlib
import io
import re
import sys
from typing import Any

from jaxft.config import cli, help
from jaxft.core.errors import UserError

SHELLS = ("bash", "zsh", "tcsh")
# Commands that take options of the config, and others of the run that they are given.
CONFIGURED = ("train", "evaluate", "predict", "plan", "teach", "clean", "augment", "weigh", "suspicious_labels")
CONFIGURED += ("self_train",)
_OPTION = re.compile(r"(?<![\w-])--[a-z]\w*")  # an option of the command itself: those of the config have a dot


def main(argv: list[str]) -> None:
    """Print the script for a shell."""
    if not argv or argv[0] in help.FLAGS:
        print(f"usage: jaxft completion {'|'.join(SHELLS)}\n\n{__doc__}")
        return
    if argv[0] not in SHELLS or len(argv) > 1:
        raise UserError(f"{' '.join(argv)}: must be one of {', '.join(SHELLS)}")
    import shtab

    print(shtab.complete(parser(), argv[0]))


def parser() -> argparse.ArgumentParser:
    """The commands with their options, as far as a shell completes them."""
    from jaxft.__main__ import COMMANDS

    made = argparse.ArgumentParser(prog="jaxft", description="fine-tune BERT-family encoders in JAX")
    made.add_argument("--version", action="store_true", help="print the versions")
    commands = made.add_subparsers(dest="command")
    for name, about in COMMANDS.items():
        command: Any = commands.add_parser(name, help=about, description=about)
        _file(command.add_argument("paths", nargs="*", help="config, run, model or data", choices=_words(name)))
        own = sorted(set(_OPTION.findall(_help_of(name))) - {"--help", "--debug", "--section"})
        for option in own:
            _file(command.add_argument(option, help=f"jaxft help {name}"))
        for option in help.options() if name in CONFIGURED else ():
            if f"--{option.name}" not in own:
                values = [x for x in option.values if re.fullmatch(r"[\w.-]+", x)]
                first = option.doc.partition(".")[0]
                added = command.add_argument(f"--{option.name}", choices=values or None, help=first.replace("%", "%%"))
                if not values:
                    _file(added)
    return made


def _words(name: str) -> list[str] | None:
    """The words that a command takes in place of files."""
    if name == "hf":
        from jaxft.hf.scripts import SCRIPTS

        return list(SCRIPTS)
    return list(SHELLS) if name == "completion" else None


def _file(action: Any) -> None:
    """Complete the names of files, unless there are choices."""
    if not action.choices:
        action.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}


def _help_of(name: str) -> str:
    """The help of a command."""
    from jaxft.__main__ import main as command

    if name in ("hf", "completion"):
        return ""
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        command([name, "--help"])
    return text.getvalue()


if __name__ == "__main__":
    cli.run_main(main, sys.argv[1:])
