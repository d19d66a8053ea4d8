"""The command line of a benchmark: common options, and commands that compare alternatives of a part."""

import argparse
from collections.abc import Callable, Collection, Iterator

from benchmarks import record
from jaxft.core.errors import UserError

Part = tuple[str, dict[str, Callable[[], float]], str]  # what is measured, a timer of each alternative, jaxft's default


def make_parser(doc: str | None, output: str | None = None, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as its help.

    Args:
      doc: the docstring.
      output: the file of benchmarks/results that --output replaces; None means that there is no --output.
      rounds: the default of --rounds; None means that there is no --rounds.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if output:
        parser.add_argument("--output", default=str(record.RESULTS / output))
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds)
    return parser


def check_names(option: str, given: list[str] | None, known: Collection[str], says: str = "there are") -> None:
    """Raise a UserError if a given name is unknown."""
    if unknown := [name for name in given or [] if name not in known]:
        raise UserError(f"{option} {unknown[0]}: {says} {', '.join(known)}")


def compare_parts(argv: list[str], doc: str | None, parts: Callable[[], Iterator[Part]], output: str) -> None:
    """Run a command that measures the alternatives of some parts in turn."""
    from jaxft.core import backend

    args = make_parser(doc, output, rounds=7).parse_args(argv)
    chosen = backend.start(compile_cache=False, distributed="off")
    for what, timers, default in parts():
        found = record.compare(record.in_turn(timers, args.rounds), default)
        for name, row in found.items():
            print(f"{what}: {name}: {row['seconds']['median'] * 1e3:.3f} ms, {row['ratio']['median']}", flush=True)
        row = {"what": what, "device": chosen.device, "default": default, "rows": found}
        record.add(args.output, row, "what", "device", "processor")
