"""Train recipes with jaxft and with Hugging Face Trainer, in turn, with a few seeds: the figures in the recipes' headers.

    python -m benchmarks.recipes run configs/rte.yaml configs/cola.yaml [--seeds 0 1 2] [--section.field value ...]
    python -m benchmarks.recipes table    # print the table of all results as Markdown
    python -m benchmarks.recipes write    # write it into docs/results.md, and each recipe's figures into its header

Results are added to a JSON file (--results) after each training; results with the same settings are not measured again.
Options such as --model.path are given to both sides and make a separate row; in a header, they need a command with these
options.
"""

import hashlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import pages, record
from benchmarks.command import make_parser
from benchmarks.hf.settings import changed
from benchmarks.record import Row
from jaxft.config import cli
from jaxft.core.errors import UserError

RESULTS, PAGE = "benchmarks/results/recipes.json", "docs/results.md"
FIGURES = re.compile(r"# (Test|Validation) \w+ of seeds? [\d, ]+: ")
SIDES = ("jaxft", "trainer")


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--results", default=RESULTS)
    kinds = parser.add_subparsers(dest="what", required=True)
    run = kinds.add_parser("run")
    run.add_argument("recipes", nargs="+")
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    run.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    kinds.add_parser("table")
    kinds.add_parser("write")
    args, options = parser.parse_known_args(argv)
    results = Path(args.results)
    if args.what == "run":
        for recipe, seed, side in product(args.recipes, args.seeds, args.sides):
            train = partial(SCORERS[side], recipe, [*options, f"--seed={seed}"])
            add(results, {"recipe": recipe, "options": options, "side": side, "seed": seed}, train)
    elif options:
        raise UserError(f"{args.what} takes no {options[0]}")
    elif args.what == "table":
        print("\n".join(table(read(results))))
    else:
        write_headers(read(results))
        pages.write(Path(PAGE), {"recipes": table(read(results))})


def add(results: Path, name: Row, measure: Callable[[], Row]) -> None:
    """Measure a row and replace the one of this name, unless it exists with the same settings."""
    settings = digest([name["recipe"], *name["options"]])
    if any(row["settings"] == settings and name.items() <= row.items() for row in read(results)):
        return
    start = time.perf_counter()
    row = name | {"settings": settings} | measure() | {"seconds": round(time.perf_counter() - start, 1)}
    print(json.dumps(row), flush=True)
    record.add(results, row, *name)


def train_jaxft(recipe: str, options: list[str]) -> Row:
    """The figures of a jaxft run, which is deleted."""
    with tempfile.TemporaryDirectory() as folder:
        output("jaxft.train", [recipe, *options, f"--output_dir={folder}/run", "--log.progress=false"])
        final = json.loads(Path(folder, "run", "metrics.jsonl").read_text().splitlines()[-1])
    metric = metric_of([recipe, *options])
    return {"metric": metric, "score": final[metric], "steps": final["step"]}


def train_peer(recipe: str, options: list[str]) -> Row:
    """The figures of a run of Hugging Face Trainer."""
    found = json.loads(output("benchmarks.hf_trainer", [recipe, *options]).splitlines()[-1])
    return {name: found[name] for name in ("metric", "score", "steps")}


SCORERS: dict[str, Any] = {"jaxft": train_jaxft, "trainer": train_peer}


def output(module: str, arguments: list[str]) -> str:
    """The standard output of a command; its standard error is not captured."""
    return subprocess.run([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def metric_of(argv: list[str]) -> str:
    """The metric of a recipe: on the test split if there is one, otherwise on the validation split."""
    from jaxft.tasks import task_class

    config = cli.load(argv)
    metric = config.eval.metric or next(iter(task_class(config).metrics))
    return f"{'test' if config.data.test else 'eval'}/{metric}"


def digest(argv: list[str]) -> str:
    """A digest of all options of a recipe except its name, seed and output directory."""
    options = {k: v for k, v in changed(cli.load(argv)).items() if k not in ("seed", "output_dir")}
    return hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode()).hexdigest()[:12]


def read(results: Path) -> list[Row]:
    """All rows, by recipe, options, seed and side."""
    return sorted(record.rows(results), key=lambda row: (row["recipe"], row["options"], row["seed"], row["side"]))


def groups(rows: list[Row]) -> Iterator[tuple[str, dict[str, list[Row]]]]:
    """(recipe and its options, rows by side)."""
    for key in dict.fromkeys((row["recipe"], *row["options"]) for row in rows):
        own = [row for row in rows if (row["recipe"], *row["options"]) == key]
        yield " ".join(key), {side: [row for row in own if row["side"] == side] for side in SIDES}


def figures(rows: list[Row]) -> str:
    """The score of each seed."""
    return ", ".join(f"{row['score']:.{digits(row)}f}" for row in rows) or "not run"


def mean(rows: list[Row]) -> str:
    """The mean and standard deviation over the seeds."""
    scores = [row["score"] for row in rows]
    if len(scores) < 2:
        return figures(rows)
    return f"{statistics.mean(scores):.{digits(rows[0])}f} ± {statistics.stdev(scores):.{digits(rows[0])}f}"


def digits(row: Row) -> int:
    """The number of decimals of a score: four for a share, two for percent or a perplexity."""
    return 4 if abs(row["score"]) <= 1 else 2


def table(rows: list[Row]) -> list[str]:
    """A Markdown table with the mean and standard deviation of both sides."""
    body = []
    for name, sides in groups(rows):
        every = [row for own in sides.values() for row in own]
        seeds = len({row["seed"] for row in every})
        body.append([f"`{name}`", every[0]["metric"], seeds, *(mean(sides[side]) for side in SIDES)])
    return pages.table(("recipe", "metric", "seeds", "jaxft", "Hugging Face Trainer"), body)


def write_headers(rows: list[Row]) -> None:
    """Write the figures of both sides below their command in the recipe's header."""
    for name, sides in groups(rows):
        if not sides["jaxft"]:
            continue
        recipe, command = Path(name.split(" ")[0]), f"# python -m jaxft.train {name}"
        lines = recipe.read_text(encoding="utf-8").splitlines()
        if command not in lines:
            print(f"{recipe}: no line {command}")
            continue
        below = lines.index(command) + 1
        old = below < len(lines) and FIGURES.match(lines[below])
        lines[below : below + bool(old)] = [header(sides)]
        recipe.write_text("\n".join([*lines, ""]), encoding="utf-8")


def header(sides: dict[str, list[Row]]) -> str:
    """The comment line with the figures of a recipe."""
    every = [row for own in sides.values() for row in own]
    seeds = sorted({row["seed"] for row in every})
    split, _, metric = every[0]["metric"].partition("/")
    what = f"{'Test' if split == 'test' else 'Validation'} {metric} of seed{'s' * (len(seeds) > 1)}"
    theirs = f" (Hugging Face Trainer: {figures(sides['trainer'])})" if sides["trainer"] else ""
    return f"# {what} {', '.join(map(str, seeds))}: {figures(sides['jaxft'])}{theirs}."


if __name__ == "__main__":
    cli.run_main(main)
