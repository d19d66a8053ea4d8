"""All measurements that need a GPU, in less than nine minutes.

    python -m benchmarks.gpu [--seconds 500] [--output benchmarks/results/gpu.json]

It needs jax (with CUDA), flax, optax, orbax-checkpoint, transformers and torch, but no data sets and no hub. It measures
first the steps that have targets, as shares of the peak, then whole loops on GLUE's lengths in turn with PyTorch, then
other steps and the implementations of attention. Every row is written as soon as it is measured; a row says why if there
was no time or it failed.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from benchmarks import record
from benchmarks.command import make_parser
from benchmarks.peers.__main__ import Side, rows_of, started
from jaxft.config import cli
from jaxft.core.errors import UserError

SIDES = ("compile", "jaxft", "torch", "keys")
LOOPS = {"base": (64, 30), "large": (32, 15)}  # examples a step, steps a window
FIRST = ("base-full", "large-packed-512", "base-full-keys", "large-packed-512-keys")
REST = ("base-32", "base-head", "minilm-32")
LEAST = 20  # seconds; nothing can be measured in less
KEYS = ("what", "device", "dtype", "size", "side")


def loops(
    size: str, dtype: str, sides: Sequence[str], rounds: int, batch: int, steps: int, left: Callable[[], float]
) -> list[record.Row]:
    """The rows of all sides, measured in turn until the time is over."""
    window = [str(steps), "10"]
    ready: dict[str, Side] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        for side in sides:
            command = [sys.executable, "-m", "benchmarks.peers.side_synthetic", side, *window, size, dtype, str(batch)]
            try:
                ready[side] = stack.enter_context(started(side, command, left()))
            except UserError as error:  # torch.compile wants a compiler, and not every machine has one
                failed[side] = str(error)
        try:
            record.in_turn({name: side.measure for name, side in ready.items()}, rounds)
        except UserError as error:  # the rounds before it were complete
            print(f"{size}: {error}", flush=True)
            whole = min((len(side.windows) for side in ready.values()), default=0)
            for name, side in ready.items():
                side.windows = side.windows[:whole]
                if not whole:
                    failed[name] = str(error)
    measured = {name: side for name, side in ready.items() if side.windows}
    rows = rows_of(measured, steps, ("torch", "compile")) + [{"side": side, "skipped": why} for side, why in failed.items()]
    return [{"size": size, "batch": batch} | row for row in rows]


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__, "gpu.json", rounds=5)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--sizes", nargs="*", default=list(LOOPS))
    parser.add_argument("--sides", nargs="+", default=list(SIDES))
    parser.add_argument("--first", nargs="*", default=list(FIRST), help="cases of benchmarks.step")
    parser.add_argument("--rest", nargs="*", default=[*(f"step {name}" for name in REST), "attention"])
    args = parser.parse_args(argv)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # several processes share the device
    end = time.monotonic() + args.seconds
    about = {"device": device(), "dtype": args.dtype}

    def left() -> float:
        return end - time.monotonic()

    def part(name: str) -> None:
        kind, _, case = name.partition(" ")
        choice = ["--rounds", "3", "--cases", case] if kind == "step" else ["--rounds", "5"]
        output = args.output.removesuffix(".json") + ("_steps.json" if kind == "step" else "_attention.json")
        command = [sys.executable, "-m", f"benchmarks.{kind}", *choice, "--output", output]
        why = "the time was over"
        if left() > LEAST:
            try:
                subprocess.run(command, check=True, timeout=left())
                return
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
                why = str(error)
        record.add(args.output, about | {"what": kind, "size": case, "side": "jaxft", "skipped": why}, *KEYS)

    for case in args.first:
        part(f"step {case}")
    for size in args.sizes:
        batch, steps = LOOPS.get(size, (4, 2))
        for row in loops(size, args.dtype, args.sides, args.rounds, batch, steps, left):
            record.add(args.output, about | {"what": "loop"} | row, *KEYS)
    for name in args.rest:
        part(name)


def device() -> str:
    """The name of the device, from a separate process, so that its memory is freed."""
    command = [sys.executable, "-c", "import jax; print(jax.devices()[0].device_kind)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    cli.run_main(main)
