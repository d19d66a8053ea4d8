"""`jaxft COMMAND ...` or `python -m jaxft COMMAND ...`: the entry point for all commands."""

import importlib
import sys
from importlib.metadata import version
from typing import NoReturn

from jaxft import __version__
from jaxft.config import cli
from jaxft.core.errors import UserError, nearest

COMMANDS = {
    "train": "fine-tune and evaluate a model; the same command again resumes",
    "evaluate": "compute metrics of a fine-tuned model on labelled data",
    "predict": "write a prediction or an embedding for every row of a file",
    "serve": "answer requests over HTTP, in batches",
    "report": "write one html file that shows a run, or compares several",
    "export": "write a model as a Hugging Face directory, an ONNX file or a StableHLO program",
    "plan": "show what a run would do: parameters, learning rates, padding, FLOPs, memory",
    "teach": "run the teacher of a distillation once, and keep its outputs for later runs",
    "clean": "clean data, find duplicates, leaks and odd labels, and write what stays",
    "augment": "write augmented copies of the training data to a file",
    "weigh": "weigh training data by how much they are like texts of another domain",
    "suspicious_labels": "list training rows whose label is probably wrong, by cross-validation",
    "self_train": "train in rounds on texts without labels, with the labels that the round before predicts",
    "vocabulary": "train a WordPiece tokenizer for a model from scratch",
    "completion": "print a script with which the shell completes commands and options",
    "hf": "run with the flags of Hugging Face's run_glue, run_ner, run_qa, run_mlm or run_swag",
}


def main(argv: list[str]) -> None:
    """Run the command that the first argument names with the remaining arguments."""
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
    elif argv[0] == "--version":
        print(f"jaxft {__version__} (jax {version('jax')})")
    elif argv[0] == "help":
        main(_help(*argv[1:]))
    elif argv[0] not in COMMANDS:
        known = nearest(argv[0], [*COMMANDS, "help"]) or f"; the commands are {', '.join(COMMANDS)}"
        raise UserError(f'unknown command "{argv[0]}"{known}')
    else:
        module = f"{argv[0]}.__main__" if argv[0] in ("hf", "report") else argv[0]
        importlib.import_module(f"jaxft.{module}").main(argv[1:])


def _help(command: str = "--help", *topic: str) -> list[str]:
    """`help COMMAND TOPIC` as `COMMAND --help TOPIC`; hf has scripts in place of topics."""
    return [command, *topic, "--help"] if command == "hf" else [command, "--help", *topic]


def overview() -> str:
    """The usage message, with one line per command."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{about}" for name, about in COMMANDS.items()]
    more = "jaxft help COMMAND shows its options, jaxft --version the version; python -m jaxft.COMMAND is the same"
    return "\n".join(["usage: jaxft COMMAND ...", "", *lines, "", more])


def run() -> NoReturn:
    """The console script `jaxft`."""
    cli.run_main(main, sys.argv[1:])


if __name__ == "__main__":
    run()
