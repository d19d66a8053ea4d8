"""What the benchmarks of single parts share: alternatives in turn, ratios to jaxft's default, a result file."""

import argparse
from collections.abc import Callable, Iterator

from benchmarks import record

Part = tuple[str, dict[str, Callable[[], float]], str]  # what is measured, how, and which of them is jaxft's default


def run(argv: list[str], doc: str | None, parts: Callable[[], Iterator[Part]], file: str) -> None:
    """Run a command that measures some parts."""
    from jaxft.core import backend

    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", default=str(record.RESULTS / file))
    args = parser.parse_args(argv)
    chosen = backend.start(compile_cache=False, distributed="off")
    for what, timers, default in parts():
        found = record.compare(record.in_turn(timers, args.rounds), default)
        for name, row in found.items():
            print(f"{what}: {name}: {row['seconds']['median'] * 1e3:.3f} ms, {row['ratio']['median']}", flush=True)
        row = {"what": what, "device": chosen.device, "default": default, "rows": found}
        record.add(args.output, row, "what", "device", "processor")
