"""Compare the scores of jaxft and Hugging Face Trainer over ten seeds on two small data sets.

    python -m benchmarks.scores run [--seeds 0 1 2] [--sides jaxft trainer same] [--sets sst2 banking77]
    python -m benchmarks.scores write    # write the table into docs/results.md

Each seed draws a new head and a new order of examples on each side; "same" is Trainer with jaxft's head and order, so only
the arithmetic differs. Sides take turns within a process. Results with the same settings are not measured again.
"""

import csv
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

from benchmarks import pages, recipes, record
from benchmarks.command import make_parser
from benchmarks.record import Row
from jaxft.config import cli

RESULTS, PAGE = "benchmarks/results/scores.json", "docs/results.md"
FOLDER = Path("runs/scores")
SIDES = ("jaxft", "trainer", "same")


@dataclass(frozen=True)
class Set:
    """A slice of a recipe's data with equally many rows of each label.

    Attributes:
      recipe: the recipe, whose settings are used except for `options`.
      label: the label column.
      files: split -> (file, maximum number of rows per label).
      labels: the number of labels, the first by name.
    """

    recipe: str
    label: str
    files: dict[str, tuple[str, int]]
    options: tuple[str, ...]
    labels: int | None = None


SETS = {
    "sst2": Set(
        "configs/sst2.yaml",
        "label",
        {"train": ("../shared/data/glue/SST-2/train.tsv", 150), "validation": ("../shared/data/glue/SST-2/dev.tsv", 200)},
        ("--train.epochs=2",),
    ),
    "banking77": Set(
        "configs/banking77.yaml",
        "category",
        {"train": ("configs/data/banking77/train.csv", 10), "test": ("configs/data/banking77/test.csv", 15)},
        ("--train.epochs=3",),
        labels=20,
    ),
}


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--results", default=RESULTS)
    kinds = parser.add_subparsers(dest="what", required=True)
    run = kinds.add_parser("run")
    run.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    run.add_argument("--sides", nargs="+", choices=SIDES, default=["jaxft", "trainer"])
    run.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    kinds.add_parser("write")
    args = parser.parse_args(argv)
    if args.what == "run":
        options = {name: write_slices(name) for name in args.sets}
        for seed, name, side in product(args.seeds, args.sets, args.sides):
            recipe, own = SETS[name].recipe, options[name]
            row = {"set": name, "recipe": recipe, "options": own, "side": side, "seed": seed}
            recipes.add(Path(args.results), row, partial(SCORERS[side], [recipe, *own, f"--seed={seed}"]))
    else:
        pages.write(Path(PAGE), {"scores": table(record.rows(args.results))})


def write_slices(name: str) -> list[str]:
    """Write the slices of a set; the result is the options of the set and of its files."""
    chosen, options = SETS[name], list(SETS[name].options)
    for split, (file, most) in chosen.files.items():
        with open(file, newline="", encoding="utf-8") as source:
            comma = file.endswith(".csv")
            rows = list(csv.DictReader(source) if comma else csv.DictReader(source, delimiter="\t", quoting=csv.QUOTE_NONE))
        labels = sorted({row[chosen.label] for row in rows})[: chosen.labels]
        rows = [row for row in rows if row[chosen.label] in labels]
        path = FOLDER / name / f"{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as target:
            writer = csv.DictWriter(target, list(rows[0]))
            writer.writeheader()
            writer.writerows(some_of_each(rows, chosen.label, most))
        options.append(f"--data.{split}={path}")
    return options


def some_of_each(rows: list[Row], label: str, most: int) -> list[Row]:
    """A limited number of rows of each label, always the same, in random order."""
    left: dict[str, int] = {}
    chosen = []
    for row in random.Random(0).sample(rows, len(rows)):
        left[row[label]] = left.get(row[label], most) - 1
        if left[row[label]] >= 0:
            chosen.append(row)
    return chosen


def train_jaxft(argv: list[str]) -> Row:
    """The score of a jaxft run, which is deleted."""
    from jaxft.train import train

    metric = recipes.metric_of(argv)
    with TemporaryDirectory() as folder:
        found = train(cli.load([*argv, f"--output_dir={folder}/run", "--log.progress=false"]))
    return {"metric": metric, "score": found[metric]}


def train_peer(argv: list[str], *, same: bool = False) -> Row:
    """The score of a run of Hugging Face Trainer."""
    from benchmarks import hf_trainer

    found = hf_trainer.train(cli.load(argv), same=same)
    return {name: found[name] for name in ("metric", "score")}


SCORERS: dict[str, Callable[[list[str]], Row]] = {
    "jaxft": train_jaxft,
    "trainer": train_peer,
    "same": partial(train_peer, same=True),
}


def table(rows: list[Row]) -> list[str]:
    """A Markdown table with mean and standard error of each side, and of the differences between jaxft and Trainer."""
    body = []
    for name in dict.fromkeys(row["set"] for row in rows):
        scores = {s: {r["seed"]: 100 * r["score"] for r in rows if (r["set"], r["side"]) == (name, s)} for s in SIDES}
        ours, theirs, same = ([*scores[s].values()] for s in SIDES)
        difference = "not run"
        if min(len(ours), len(theirs)) > 1:
            spread = (standard_error(ours) ** 2 + standard_error(theirs) ** 2) ** 0.5
            difference = f"{mean(ours) - mean(theirs):+.2f} ± {spread:.2f}"
        pairs = [scores["jaxft"][seed] - score for seed, score in scores["same"].items() if seed in scores["jaxft"]]
        body.append([name, len(ours), shown(ours), shown(theirs), difference, shown(same), shown(pairs, "+")])
    differences = ("difference", "Trainer, same head and order", "difference, seed by seed")
    return pages.table(("set", "seeds", "jaxft", "Trainer", *differences), body)


def shown(scores: list[float], sign: str = "") -> str:
    """Mean ± standard error."""
    return f"{mean(scores):{sign}.2f} ± {standard_error(scores):.2f}" if len(scores) > 1 else "not run"


def standard_error(scores: list[float]) -> float:
    """The standard error of the mean."""
    return stdev(scores) / len(scores) ** 0.5


if __name__ == "__main__":
    cli.run_main(main)
