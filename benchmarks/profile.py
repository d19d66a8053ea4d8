"""Where the time of a train step goes: its operations by kind, measured by JAX's profiler.

    python -m benchmarks.profile [--cases minilm-full minilm-full-bf16] [--steps 10]

The seconds of operations are summed over threads: concurrent operations count twice, and waiting for other threads is
included. The shares say where to look, not how much a change would gain.
"""

import argparse
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import jax

from benchmarks import record
from benchmarks.step import CPU, GPU, Step
from jaxft.core import backend
from jaxft.core.errors import UserError

# What an instruction's line says of it; the first that is found counts.
KINDS = {
    "masks of dropout": re.compile(r'op_name="[^"]*jvp[^"]*/sqrt"'),
    "products of attention": re.compile(r'= [a-z0-9]+\[\d+,\d+,\d+,\d+\].*op_name="[^"]*dot_general"'),
    "products with kernels": re.compile(r'= [a-z0-9]+\[\d+,\d+\].*op_name="[^"]*dot_general"'),
    "layer norms": re.compile(r'op_name="[^"]*LayerNorm'),
    "activations": re.compile(r'op_name="[^"]*/intermediate/[^/"]*"'),
    "the rest of attention": re.compile(r'op_name="[^"]*attention/self'),
    "optimizer": re.compile(r'op_name="[^"]*/optimizer/'),
    "copies": re.compile(r" (copy|transpose|slice)\(|(copy|transpose|slice|bitcast)_\w*fusion"),
}
REST = "the rest"
USUAL = ("minilm-full", "minilm-full-bf16", "base-full", "large-packed-512")
LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*")


def kinds_of(text: str) -> dict[str, str]:
    """The kind of every instruction of a compiled program, by its name."""
    lines = {match[1]: match[0] for line in text.splitlines() if (match := LINE.match(line))}
    return {name: next((kind for kind, says in KINDS.items() if says.search(line)), REST) for name, line in lines.items()}


def operations(folder: Path) -> Iterable[tuple[str, float]]:
    """Name and seconds of every operation in a trace."""
    [file] = folder.rglob("*.xplane.pb")
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            for event in line.events:
                if name := dict(event.stats).get("hlo_op"):
                    yield str(name), event.duration_ns / 1e9


def profile(step: Step, steps: int) -> record.Row:
    """Shares of the kinds, largest first, and the operations that take longest."""
    step.measure(2)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            seconds = step.measure(steps)
        found = list(operations(Path(folder)))
    kinds, total = kinds_of(step.step.as_text()), sum(each for _, each in found)
    if not total:
        raise UserError("the profiler saw no operation of the step")
    by_kind: dict[str, float] = defaultdict(float)
    for name, each in found:
        by_kind[kinds.get(name, REST)] += each
    shares = sorted(((each / total, kind) for kind, each in by_kind.items()), reverse=True)
    return {
        "seconds": float(f"{seconds:.4g}"),
        "seconds_of_operations": float(f"{total / steps:.4g}"),
        "shares": {kind: round(share, 3) for share, kind in shares},
    }


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--output", default=str(record.RESULTS / "profile.json"))
    args = parser.parse_args(argv)
    chosen = backend.start(compile_cache=False, distributed="off")
    cases = CPU if chosen.platform == "cpu" else GPU
    for name in args.cases or [name for name in USUAL if name in cases]:
        if name not in cases:
            raise UserError(f"--cases {name}: on {chosen.platform} there are {', '.join(cases)}")
        row = {"name": name, "device": chosen.device} | profile(Step(cases[name].run()), args.steps)
        print(name, row["shares"], flush=True)
        record.add(args.output, row, "name", "device", "processor")


if __name__ == "__main__":
    from jaxft.config import cli

    cli.run_main(main)
