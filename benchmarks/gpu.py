"""Everything that needs a GPU, in one command of under nine minutes.

    python -m benchmarks.gpu [--seconds 500] [--output benchmarks/results/gpu.json]

Needs jax (with CUDA), flax, optax, orbax-checkpoint, transformers and torch; no data sets, no hub. Measures whole loops on
GLUE's lengths against PyTorch in turn, single steps of base and large models as shares of the peak, and attention's
implementations; whatever time is too short for says so. Every row is written as soon as it is measured.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack

from benchmarks import record
from benchmarks.peers.__main__ import rows_of, started
from jaxft.errors import UserError

SIDES = ("torch", "jaxft", "compile", "keys")
LOOPS = {"base": (64, 30), "large": (32, 15)}  # examples a step, steps a window
STEPS = (
    "base-full",
    "large-packed-512",
    "base-full-keys",
    "large-packed-512-keys",
    "base-32",
    "base-head",
    "minilm-32",
)


def loops(size: str, dtype: str, rounds: int, batch: int, steps: int) -> list[record.Row]:
    """Rows of all sides."""
    window = [str(steps), "10"]
    with ExitStack() as stack:
        ready = {}
        for side in SIDES:
            command = [sys.executable, "-m", "benchmarks.peers.side_synthetic", side, *window, size, dtype, str(batch)]
            try:
                ready[side] = stack.enter_context(started(side, command))
            except UserError as error:  # torch.compile wants a compiler, and not every machine has one
                print(f"{size}: {error}", flush=True)
        record.in_turn({name: side.measure for name, side in ready.items()}, rounds)
    return [{"size": size, "dtype": dtype, "batch": batch} | row for row in rows_of(ready, steps, "torch")]


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--sizes", nargs="+", default=list(LOOPS))
    parser.add_argument("--steps", nargs="*", default=list(STEPS), help="cases of benchmarks.step")
    parser.add_argument("--output", default=str(record.RESULTS / "gpu.json"))
    args = parser.parse_args(argv)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # several processes share the device
    end = time.monotonic() + args.seconds
    for size in args.sizes:
        batch, steps = LOOPS.get(size, (4, 2))
        for row in loops(size, args.dtype, args.rounds, batch, steps):
            record.add(args.output, {"what": "loop"} | row, "what", "size", "side", "dtype")
    parts = {f"step {name}": ["benchmarks.step", "--rounds", "3", "--cases", name] for name in args.steps}
    parts["attention"] = ["benchmarks.attention", "--rounds", "5"]
    for name, command in parts.items():
        left = end - time.monotonic()
        if left < 30:
            print(f"{name}: not measured, the time is over")
            continue
        output = args.output.removesuffix(".json") + ("_steps.json" if name.startswith("step") else "_attention.json")
        try:
            subprocess.run([sys.executable, "-m", *command, "--output", output], check=True, timeout=left)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            print(f"{name}: not measured: {error}", flush=True)


if __name__ == "__main__":
    from jaxft import cli

    cli.run_main(main)
