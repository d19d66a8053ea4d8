"""Time from the command to the first step of the quickstart, with a cold and a warm compilation cache.

    python -m benchmarks.first_step [--recipe configs/banking77.yaml] [--rounds 3]

The time is from the start of the process to the first row of its journal, which is written when the next step has been
dispatched. It includes imports, reading weights, tokenising, batching and compiling. With a cold cache, texts are tokenised
anew.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record
from benchmarks.command import make_parser
from jaxft.config import cli


def seconds(recipe: str, cache: Path, run: Path) -> float:
    """Seconds until the first step of a run, which is then stopped."""
    options = ["--output_dir", str(run), "--log.every", "1", "--log.progress", "false"]
    start = time.perf_counter()
    command = [sys.executable, "-m", "jaxft.train", recipe, *options]
    environment = os.environ | {"JAXFT_CACHE": str(cache)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        journal = run / "metrics.jsonl"
        try:
            while not (journal.exists() and journal.stat().st_size):
                if process.poll() is not None:
                    raise SystemExit(f"{recipe}: ended with code {process.returncode} before its first step")
                time.sleep(0.02)
            return time.perf_counter() - start
        finally:
            process.kill()


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__, "first_step.json", rounds=3)
    parser.add_argument("--recipe", default="configs/banking77.yaml")
    args = parser.parse_args(argv)
    found: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for kind, taken in found.items():
                taken.append(seconds(args.recipe, Path(folder) / "cache", Path(folder) / kind))
    row = {"recipe": args.recipe} | {f"{kind}_seconds": record.spread(taken) for kind, taken in found.items()}
    print(row, flush=True)
    record.add(args.output, row, "recipe", "processor")


if __name__ == "__main__":
    cli.run_main(main)
