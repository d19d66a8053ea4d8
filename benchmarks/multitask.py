"""What tasks gain from each other in one run, against a run for each task.

python -m benchmarks.multitask intents "few intents" snips   # appends rows to the output file
python -m benchmarks.multitask                               # writes the table of docs/multitask.md

Each run is a row of the output file; a row that is there is not run again. A task has the same training rows, sees as many
examples, and is measured on the same test rows with all methods, and the learning rates are the same. A step of "mixed" has
the examples of a step of each task; "one" has half as many examples in a step, and as many more steps.
"""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pages
from benchmarks.augmentation import table
from benchmarks.command import check_names, make_parser
from benchmarks.domains import MINILM
from benchmarks.real_texts import DATA, snips_intents
from benchmarks.tables import add_missing, read_lines, read_table, write_rows
from jaxft.config import cli
from jaxft.train import train

RESULTS = "multitask.jsonl"
BATCH = 32
OPTIONS = (*MINILM, "--optim.learning_rate=4e-4", "--optim.weight_decay=0.01")
ALONE = "none"  # what augmentation.table compares with
METHODS: dict[str, tuple[str, ...]] = {
    ALONE: (),
    "mixed": (f"--train.batch_size={2 * BATCH}", "--sampling.sampler=round_robin"),
    "one": (f"--train.batch_size={BATCH}", "--sampling.sampler=round_robin", "--sampling.per_step=one"),
}
Task = dict[str, Any]


@dataclass(frozen=True)
class Set:
    """Two tasks.

    Attributes:
      title: in the table.
      metrics: the score of each task.
      steps: of 32 examples for each task.
      few: training rows of each label of the first task; None means all.
    """

    title: str
    metrics: dict[str, str]
    steps: int
    few: int | None = None


INTENTS = {"banking77": "accuracy", "clinc150": "accuracy"}
SETS = {
    "intents": Set("all rows", INTENTS, 250),
    "few intents": Set("10 rows per intent of banking77", INTENTS, 150, few=10),
    "snips": Set("SNIPS", {"intents": "accuracy", "slots": "f1"}, 150),
}


def tasks_of(name: str, seed: int, work: Path) -> list[Task]:
    """The tasks of a set."""
    own = SETS[name]
    if name == "snips":
        rows = {split: snips_intents(split) for split in ("train", "test")}
        files = {split: str(write_rows(work / "data" / f"snips_{split}.jsonl", x)) for split, x in rows.items()}
        tags = {split: str(DATA / "snips" / split) for split in ("train", "test")}
        return [
            {"name": "intents", "data": files | {"label": "intent"}},
            {"name": "slots", "task": {"name": "token-classification"}, "data": tags},
        ]
    rows = read_table("configs/data/banking77/train.csv")
    if own.few:
        chosen, taken = [], Counter[str]()
        for i in np.random.default_rng(seed).permutation(len(rows)):
            if taken[rows[i]["category"]] < own.few:
                taken[rows[i]["category"]] += 1
                chosen.append(rows[i])
        rows = chosen
    train = write_rows(work / "data" / f"banking77-{own.few or 'all'}-{seed}.jsonl", rows)
    banking = {"train": str(train), "test": "configs/data/banking77/test.csv", "label": "category"}
    clinc = {split: f"configs/data/clinc150/{split}.csv" for split in ("train", "test")} | {"label": "intent"}
    return [{"name": "banking77", "data": banking}, {"name": "clinc150", "data": clinc}]


def measure(name: str, method: str, seed: int, work: Path) -> dict[str, Any]:
    """The row of one method: the score of each task."""
    own, tasks = SETS[name], tasks_of(name, seed, work)
    found: dict[str, Any] = {"set": name, "method": method, "seed": seed, "scores": {}}
    for given in [[task] for task in tasks] if method == ALONE else [tasks]:
        folder = work / f"{name}-{method}-{seed}-{len(found['scores'])}".replace(" ", "_")
        steps = own.steps * (2 if method == "one" else 1)
        argv = [*OPTIONS, f"--seed={seed}", f"--train.max_steps={steps}", f"--output_dir={folder}"]
        if method == ALONE:
            argv += [f"--train.batch_size={BATCH}"]
            argv += [f"--task.name={task['task']['name']}" for task in given if "task" in task]
            argv += [f"--data.{key}={value}" for task in given for key, value in task["data"].items()]
            argv += ["--data.validation=null"]
        else:
            each = [task | {"data": task["data"] | {"validation": None}} for task in given]
            argv += [f"--tasks={json.dumps(each)}", *METHODS[method]]
        scores = train(cli.load(argv))
        for task in given:
            key = own.metrics[task["name"]] if method == ALONE else f"{task['name']}/{own.metrics[task['name']]}"
            found["scores"][task["name"]] = scores[f"test/{key}"]
        shutil.rmtree(folder)
    return found


def gains(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each method, a column for each task of a set."""
    each = [row | {"task": task, "score": score} for row in rows for task, score in row["scores"].items()]
    columns = {
        f"{own.title}: {task}": lambda row, name=name, task=task: (row["set"], row["task"]) == (name, task)
        for name, own in SETS.items()
        for task in own.metrics
    }
    return table(each, "method", columns)


def main(argv: list[str]) -> None:
    """Run what is not in the output file yet, and append it; or write the table."""
    parser = make_parser(__doc__, RESULTS)
    parser.add_argument("sets", nargs="*", help="none writes the tables into the page")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--work", default="runs/multitask")
    args = parser.parse_args(argv)
    check_names("set", args.sets, SETS)
    check_names("method", args.methods, METHODS)
    if not args.sets:
        rows = read_lines(Path(args.output))
        pages.write(Path("docs/multitask.md"), {"gains": gains(rows)})
    chosen = product(args.sets, args.seeds, args.methods or METHODS)
    keys = [{"set": name, "seed": seed, "method": method} for name, seed, method in chosen]
    add_missing(Path(args.output), keys, lambda key: measure(key["set"], key["method"], key["seed"], Path(args.work)))


if __name__ == "__main__":
    cli.run_main(main)
