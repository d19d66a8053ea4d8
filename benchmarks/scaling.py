"""How the time per token grows with batch size, length, layers and simulated devices.

    python -m benchmarks.scaling [--rounds 5]

Rows are full, without padding. Simulated devices share the cores, so their rows show the overhead of partitioning, not a
gain; they are measured in separate processes.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import record, synthetic
from benchmarks.command import make_parser
from benchmarks.step import Case, Step
from jaxft.config import cli
from jaxft.core import backend

TOKENS = 1024  # per step, unless the batch varies
CHILD = "--child"


def cases(platform: str) -> dict[str, list[tuple[int, Case]]]:
    """(value, step) for each axis: what varies."""
    size, dtype, tokens = ("minilm", "float32", TOKENS) if platform == "cpu" else ("base", "bfloat16", 32 * TOKENS)
    base = Case(size, tokens // 128, 128, dtype=dtype, dropout=False)
    return {
        "batch": [(n, replace(base, batch=n)) for n in (tokens // 128 * np.array([1, 2, 4]) // 2).tolist()],
        "length": [(n, replace(base, batch=tokens // n, length=n)) for n in (64, 128, 256, 512)],
    }


def layers(platform: str) -> list[tuple[int, Case]]:
    """(number of layers, step); the models are added to SIZES."""
    size, dtype, tokens = ("minilm", "float32", TOKENS) if platform == "cpu" else ("base", "bfloat16", 32 * TOKENS)
    found = []
    for depth in (2, 4, 8):
        synthetic.SIZES[f"{size}-{depth}"] = replace(synthetic.SIZES[size], layers=depth)
        found.append((depth, Case(f"{size}-{depth}", tokens // 128, dtype=dtype, dropout=False)))
    return found


def measure(axis: str, points: list[tuple[int, Case]], rounds: int) -> list[record.Row]:
    """Rows of all points of an axis, measured in turn."""
    steps = {str(value): Step(case.run()) for value, case in points}
    for step in steps.values():
        step.measure(1)
    found = record.in_turn({name: (lambda s=step: s.measure(2)) for name, step in steps.items()}, rounds)
    return [row_of(axis, name, steps[name].tokens, seconds) for name, seconds in found.items()]


def row_of(axis: str, value: str, tokens: int, seconds: list[float]) -> record.Row:
    each = record.spread(np.array(seconds) / tokens * 1e6)
    row: dict[str, Any] = {"axis": axis, "value": int(value), "microseconds_a_token": each}
    print(row, flush=True)
    return row


def child(devices: int, rounds: int) -> None:
    """Print the seconds per step on simulated devices, one line per round and request."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    backend.start(compile_cache=False, distributed="off", platforms="cpu")
    step = Step(Case("minilm", TOKENS // 128, dropout=False).run())
    step.measure(1)
    for _ in range(rounds):
        sys.stdin.readline()
        print(json.dumps([step.tokens, step.measure(2)]), flush=True)


def simulated(rounds: int) -> list[record.Row]:
    """Rows of processes with 1, 2, 4 and 8 simulated devices, measured in turn."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--rounds", str(rounds), CHILD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = {n: subprocess.Popen([*command, str(n)], **pipes) for n in (1, 2, 4, 8)}
    tokens: dict[str, int] = {}

    def ask(name: str, process: Any) -> float:
        process.stdin.write("go\n")
        process.stdin.flush()
        tokens[name], seconds = json.loads(process.stdout.readline())
        return seconds

    found = record.in_turn({str(n): (lambda n=n, p=p: ask(str(n), p)) for n, p in processes.items()}, rounds)
    for process in processes.values():
        process.communicate()
    return [row_of("simulated devices", name, tokens[name], seconds) for name, seconds in found.items()]


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__, "scaling.json", rounds=5)
    parser.add_argument(CHILD, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        child(args.child, args.rounds)
        return
    chosen = backend.start(compile_cache=False, distributed="off")
    axes = cases(chosen.platform) | {"layers": layers(chosen.platform)}
    rows = [row for axis, points in axes.items() for row in measure(axis, points, args.rounds)]
    if chosen.platform == "cpu":
        rows += simulated(args.rounds)
    record.write(args.output, record.machine() | {"device": chosen.device, "rows": rows})


if __name__ == "__main__":
    cli.run_main(main)
