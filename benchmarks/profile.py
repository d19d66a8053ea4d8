"""Where the time of a train step goes: its operations by kind, measured by JAX's profiler.

    python -m benchmarks.profile [--cases minilm-full minilm-full-bf16] [--steps 10]

The seconds of operations are summed over threads: concurrent operations count twice, and waiting for other threads is
included. The shares say where to look, not how much a change would gain.
"""

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import jax

from benchmarks import record
from benchmarks.command import check_names, make_parser
from benchmarks.step import CPU, GPU, Step
from jaxft.config import cli
from jaxft.core import backend
from jaxft.core.errors import UserError

# Kinds by what is found in the line of an instruction; the first match decides.
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
DEFAULT = ("minilm-full", "minilm-full-bf16", "base-full", "large-packed-512")
LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*")


def kinds_of(text: str) -> dict[str, str]:
    """The kind of every instruction of a compiled program, by its name."""

    def kind_of(line: str) -> str:
        return next((kind for kind, pattern in KINDS.items() if pattern.search(line)), REST)

    return {match[1]: kind_of(line) for line in text.splitlines() if (match := LINE.match(line))}


def operations(folder: Path) -> Iterable[tuple[str, float]]:
    """The name and the seconds of every operation in a trace."""
    [file] = folder.rglob("*.xplane.pb")
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            for event in line.events:
                if name := dict(event.stats).get("hlo_op"):
                    yield str(name), event.duration_ns / 1e9


def profile(step: Step, steps: int) -> record.Row:
    """Seconds per step, and the share of each kind of operation, largest first."""
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
    parser = make_parser(__doc__, "profile.json")
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args(argv)
    chosen = backend.start(compile_cache=False, distributed="off")
    cases = CPU if chosen.platform == "cpu" else GPU
    check_names("--cases", args.cases, cases, f"on {chosen.platform} there are")
    for name in args.cases or [name for name in DEFAULT if name in cases]:
        row = {"name": name, "device": chosen.device} | profile(Step(cases[name].run()), args.steps)
        print(name, row["shares"], flush=True)
        record.add(args.output, row, "name", "device", "processor")


if __name__ == "__main__":
    cli.run_main(main)
