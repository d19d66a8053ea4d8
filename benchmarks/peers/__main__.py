"""Whole training loops in turn: jaxft, Hugging Face Trainer (PyTorch), Hugging Face's last Flax script.

    python -m benchmarks.peers [--recipes configs/banking77.yaml ...] [--sides jaxft trainer ...] [--rounds 5] [--steps 8]
                               [--flax-python VENV/bin/python] [--section.field value ...]

Every side is a process that trains a few steps to warm up and then waits; in each round every side trains a window of
steps, while the others wait. Weights, texts, examples per step, learning rate, clipping and dropout (the model's own) are
the same. The time to the first step counts from the start of the process, including imports, tokenisation and compilation
(with a cold cache). Other figures are medians over the rounds; ratios are medians of the ratios within a round.
--flax-python is the Python of an environment with `transformers==4.57.6 'jax<0.8' flax optax`; without it that side is left
out.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.command import check_names, make_parser
from benchmarks.peers.windows import MARK
from jaxft.config import cli
from jaxft.core.backend import YNN_FLAG
from jaxft.core.errors import UserError

RECIPES = ("configs/banking77.yaml", "configs/sst2.yaml", "configs/imdb.yaml")
BASES = ("trainer", "trainer bfloat16")
# Training without end and without evaluation or checkpoints, with the model's own dropout.
OPTIONS = ["--train.max_steps=100000", "--data.validation=null", "--data.test=null", "--checkpoint.every=end"]
OPTIONS += [f"--model.{name}=null" for name in ("dropout", "attention_dropout", "classifier_dropout")]
OPTIONS += ["--log.progress=false", "--train.label_smoothing=0"]
Command = Callable[[list[str], list[str]], list[str]]


def jaxft_side(dtype: str, window: list[str], argv: list[str]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.peers.side_jaxft", *window, *argv, f"--train.dtype={dtype}"]


def trainer_side(dtype: str, mode: str, window: list[str], argv: list[str]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.peers.side_trainer", dtype, mode, *window, *argv]


def flax_side(dtype: str, python: str, folder: Path, window: list[str], argv: list[str]) -> list[str]:
    own = folder / Path(argv[0]).stem  # of the recipe
    model, texts = own / "model", own / "texts.json"
    if not texts.exists():
        write_for_flax(cli.load(argv), model, texts)
    return [python, "-m", "benchmarks.peers.side_flax", dtype, *window, str(model), str(texts)]


def write_for_flax(config: Any, model: Path, texts: Path) -> None:
    """Write the recipe's weights as flax_model.msgpack, and its texts and labels as json."""
    from jaxft.models.load_save import save
    from jaxft.run.setup import make_run

    run = make_run(config)
    save(run.model, run.params, model, flax=True)
    data, rows = config.data, run.data["train"].rows
    content = {
        "texts": [list(rows[column]) for column in (data.text, data.text_pair) if column],
        "labels": run.data["train"].examples.columns["labels"].tolist(),
        "num_labels": len(run.task.labels),
        "max_length": data.max_length,
        "batch_size": config.train.batch_size,
        "learning_rate": config.optim.learning_rate,
        "weight_decay": config.optim.weight_decay,
    }
    texts.write_text(json.dumps(content), encoding="utf-8")


class Side:
    """A process that trains a window of steps on request."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self.process, self.name = process, name
        self.first = self._answer()  # the first step
        self._answer()  # the steps to warm up are done
        self.windows: list[record.Row] = []

    def measure(self) -> float:
        """Train the next window; the result is its duration in seconds."""
        assert self.process.stdin
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # `_answer` says why
        self.windows.append(self._answer())
        return self.windows[-1]["seconds"]

    def _answer(self) -> record.Row:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        code = self.process.wait()
        why = "the time was over" if code == -signal.SIGKILL else f"ended with code {code}; its output is above"
        raise UserError(f"{self.name}: {why}")


@contextmanager
def started(name: str, command: list[str], limit: float = threading.TIMEOUT_MAX) -> Iterator[Side]:
    """A side that has warmed up; it is stopped at the end of the context, or `limit` seconds after its start."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"JAXFT_CACHE": cache, "JAX_COMPILATION_CACHE_DIR": f"{cache}/jax"}
        environment["TOKENIZERS_PARALLELISM"] = "false"
        # jaxft sets this flag again; an older JAX exits because of an unknown flag.
        environment["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "").replace(YNN_FLAG, "").strip()
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        clock = threading.Timer(limit, process.kill)
        clock.start()
        try:
            yield Side(process, name)
        finally:
            clock.cancel()
            process.kill()
            process.wait()


def measure(recipe: str, options: list[str], sides: dict[str, Command], rounds: int, window: list[str]) -> list[record.Row]:
    """The rows of a recipe; `window` is the number of steps in a window, and of steps to warm up, as text."""
    argv, steps = [recipe, *OPTIONS, *options], int(window[0])
    with ExitStack() as stack:
        ready: dict[str, Side] = {}
        for name, command in sides.items():
            print(f"{recipe}: {name} starts", flush=True)
            ready[name] = stack.enter_context(started(name, command(window, argv)))
        record.in_turn({name: side.measure for name, side in ready.items()}, rounds)
    about = {"processor": record.machine()["processor"], "recipe": recipe, "options": options}
    return [about | row for row in rows_of(ready, steps, BASES)]


def rows_of(sides: dict[str, Side], steps: int, bases: Sequence[str]) -> list[record.Row]:
    """The rows of sides with windows of `steps` steps, with ratios to those of `bases` that are among the sides."""
    rates = {name: [w["examples"] / w["seconds"] for w in side.windows] for name, side in sides.items()}
    rows = []
    for name, side in sides.items():
        tokens, positions = (sum(w[what] for w in side.windows) for what in ("tokens", "positions"))
        row = {
            "side": name,
            "examples_per_second": record.spread(rates[name]),
            "tokens_per_second": record.spread(w["tokens"] / w["seconds"] for w in side.windows),
            "seconds_per_step": record.spread(w["seconds"] / steps for w in side.windows),
            "padding": round(1 - tokens / positions, 4),
            "first_step_seconds": side.first["first_step_seconds"],
            "compile_seconds": side.first["compile_seconds"],
            "versions": side.first["versions"],
            "peak_bytes": side.windows[-1]["peak_bytes"],
        }
        times = {base: record.ratios(rates[name], rates[base]) for base in bases if base in rates}
        rows.append(row | {f"times_{base.replace(' ', '_')}": ratio for base, ratio in times.items()})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__, "peers.json", rounds=5)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--sides", nargs="+")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm", type=int, default=3)
    parser.add_argument("--flax-python")
    args, options = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory(prefix="jaxft-peers-", ignore_cleanup_errors=True) as folder:
        every: dict[str, Command] = {
            "jaxft": partial(jaxft_side, "float32"),
            "trainer": partial(trainer_side, "float32", "eager"),
            "jaxft bfloat16": partial(jaxft_side, "bfloat16"),
            "trainer bfloat16": partial(trainer_side, "bfloat16", "eager"),
            "trainer compile": partial(trainer_side, "float32", "compile"),
        }
        if args.flax_python:
            every["flax"] = partial(flax_side, "float32", args.flax_python, Path(folder))
        check_names("--sides", args.sides, every, "there are" if args.flax_python else "without --flax-python there are")
        sides = {name: every[name] for name in args.sides or every}
        for recipe in args.recipes:
            for row in measure(recipe, options, sides, args.rounds, [str(args.steps), str(args.warm)]):
                record.add(args.output, row, "recipe", "side", "options", "processor")


if __name__ == "__main__":
    cli.run_main(main)
