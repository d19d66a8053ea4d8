"""What a checkpoint that is written in the background costs training, at one per minute.

    python -m benchmarks.saving [--steps 40] [--rounds 20]

One run trains all-MiniLM-L6-v2 on banking77 in blocks of steps, half of which begin with a checkpoint (parameters and both
moments of Adam, 273 MB), in random order. The cost of a checkpoint is the difference between the seconds of two blocks of a
pair, one of each kind: the copy from the device that training waits for, and what writing and its checksums take from it
afterwards. On a CPU, which also trains, that is more than on a machine whose accelerator does.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.command import make_parser

RECIPE = "configs/banking77.yaml"
WARM = 10  # steps before the first block
MINUTE = 60.0


def measure(folder: Path, steps: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of the blocks without and with a checkpoint, pair by pair."""
    import jaxft
    from jaxft.config import cli
    from jaxft.train import train
    from jaxft.training import save_timer

    rng = np.random.default_rng(0)
    saves = [bool(side) for _ in range(rounds) for side in rng.permutation(2)]
    found: dict[bool, list[float]] = {False: [], True: []}
    begin = 0.0

    class Clock(jaxft.Callback):
        def on_step(self, step: Any) -> None:
            nonlocal begin
            block, place = divmod(step.number - WARM, steps)
            if place or block < 0:
                return
            now = time.perf_counter()
            if block:
                found[saves[block - 1]].append(now - begin)
            begin = now

    def due(_: save_timer.SaveTimer, step: int) -> bool:
        block, place = divmod(step - WARM, steps)
        return place == 1 and 0 <= block < len(saves) and saves[block]

    save_timer.SaveTimer.due = due  # type: ignore[method-assign]
    options = [f"--train.max_steps={WARM + len(saves) * steps + 1}", f"--output_dir={folder / 'run'}"]
    options += ["--checkpoint.every=end", "--checkpoint.keep=1", "--eval.every=end", "--log.every=1", "--log.progress=false"]
    train(cli.load([RECIPE, *options]), callbacks=[Clock()])
    return found[False], found[True]


def main(argv: Sequence[str]) -> None:
    """Measure, and write the row."""
    parser = make_parser(__doc__, "saving.json", rounds=20)
    parser.add_argument("--steps", type=int, default=40, help="steps of a block")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        without, saved = measure(Path(name), args.steps, args.rounds)
    pairs = list(zip(without, saved, strict=True))
    rows = {
        "block": record.spread(without),
        "checkpoint": record.spread(b - a for a, b in pairs),
        "share of a minute": record.spread((b - a) / MINUTE for a, b in pairs),
    }
    print(rows)
    record.add(args.output, {"what": "saving", "steps": args.steps, "rows": rows}, "what", "processor")


if __name__ == "__main__":
    main(sys.argv[1:])
