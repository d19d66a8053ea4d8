"""Compare the scores of jaxft and Hugging Face Trainer over ten seeds on two small data sets.

    python -m benchmarks.scores run [--seeds 0 1 2] [--sides jaxft trainer same] [--sets sst2 banking77]
    python -m benchmarks.scores write    # the table into docs/results.md

Each seed draws a new head and a new order of examples on each side; "same" is Trainer with jaxft's head and order, so only
the arithmetic differs. Sides take turns within a process. Results with the same settings are not measured again.
"""

import argparse
import csv
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import recipes, record
from jaxft.config import cli

RESULTS, PAGE = "benchmarks/results/scores.json", "docs/results.md"
BEGIN, END = "<!-- scores -->", "<!-- /scores -->"
FOLDER = Path("runs/scores")
SIDES = ("jaxft", "trainer", "same")
Row = dict[str, Any]


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
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", default=RESULTS)
    kinds = parser.add_subparsers(dest="what", required=True)
    run = kinds.add_parser("run")
    run.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    run.add_argument("--sides", nargs="+", choices=SIDES, default=["jaxft", "trainer"])
    run.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    kinds.add_parser("write")
    args = parser.parse_args(argv)
    if args.what == "run":
        every = {name: [SETS[name].recipe, *cut(name)] for name in args.sets}
        for seed in args.seeds:
            for name, command in every.items():
                for side in args.sides:
                    row = {"set": name, "recipe": command[0], "options": command[1:], "side": side, "seed": seed}
                    recipes.add(Path(args.results), row, partial(SCORERS[side], [*command, f"--seed={seed}"]))
    else:
        write(record.read(args.results).get("rows", []), Path(PAGE))


def cut(name: str) -> list[str]:
    """Write the slices of a set; returns the options that name them."""
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
            writer.writerows(of_each(rows, chosen.label, most))
        options.append(f"--data.{split}={path}")
    return options


def of_each(rows: list[Row], label: str, most: int) -> list[Row]:
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
    """The same of Trainer."""
    from benchmarks import hf_trainer

    found = hf_trainer.train(cli.load(argv), same=same)
    return {name: found[name] for name in ("metric", "score")}


SCORERS: dict[str, Callable[[list[str]], Row]] = {
    "jaxft": train_jaxft,
    "trainer": train_peer,
    "same": partial(train_peer, same=True),
}


def table(rows: list[Row]) -> list[str]:
    """Markdown: mean and standard error of each side, and of the difference between jaxft and each peer."""
    lines = [
        "| set | seeds | jaxft | Trainer | difference | Trainer, same head and order | difference, seed by seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["set"] for row in rows):
        scores = {s: {r["seed"]: 100 * r["score"] for r in rows if (r["set"], r["side"]) == (name, s)} for s in SIDES}
        ours, theirs, same = ([*scores[s].values()] for s in SIDES)
        apart = "not run"
        if min(len(ours), len(theirs)) > 1:
            apart = f"{mean(ours) - mean(theirs):+.2f} ± {(error(ours) ** 2 + error(theirs) ** 2) ** 0.5:.2f}"
        pairs = [scores["jaxft"][seed] - score for seed, score in scores["same"].items() if seed in scores["jaxft"]]
        cells = [name, str(len(ours)), shown(ours), shown(theirs), apart, shown(same), shown(pairs, "+")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def shown(scores: list[float], sign: str = "") -> str:
    """Mean ± standard error."""
    return f"{mean(scores):{sign}.2f} ± {error(scores):.2f}" if len(scores) > 1 else "not run"


def mean(scores: list[float]) -> float:
    return statistics.mean(scores)


def error(scores: list[float]) -> float:
    """Standard error of the mean."""
    return statistics.stdev(scores) / len(scores) ** 0.5


def write(rows: list[Row], page: Path) -> None:
    """Write the table between its marks in the page."""
    text = page.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    page.write_text("\n".join([before + BEGIN, *table(rows), END + after]), encoding="utf-8")


if __name__ == "__main__":
    cli.run_main(main)
