"""Compare strategies on the same data: score, trained parameters, step time, memory. The table is in docs/strategies.md.

    python -m benchmarks.strategies run [--recipes configs/mrpc.yaml ...] [--strategies full lora ...] [--seeds 0 1 2]
    python -m benchmarks.strategies cost     # steps of all strategies in turn, on the first recipe's batches
    python -m benchmarks.strategies write    # the table into docs/strategies.md

Each strategy is a few options on top of a recipe, whose learning rate suits `full`. Scores are added to a JSON file
(--results) after each training; results with the same settings are not measured again.
"""

import argparse
import csv
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import recipes, record
from jaxft.config import cli
from jaxft.core import backend, tree

RESULTS, COSTS = "benchmarks/results/strategies.json", "benchmarks/results/strategy_costs.json"
PAGE = "docs/strategies.md"
BEGIN, END = "<!-- strategies -->", "<!-- /strategies -->"
FEW = "runs/data/banking77_20.csv"  # made here: the first 20 questions of each intent
# Little data, a minute each, with scores far from chance; sentences, words and 77 intents.
DATA = (
    f"configs/banking77.yaml --data.train={FEW} --train.epochs=3",
    "configs/snips_slots.yaml",
    "configs/sst2.yaml --data.max_train_examples=3000 --train.epochs=1",
)
HEAD_RULE = "--plan.rules=[]"  # what trains little learns at one rate
POOLER = r"{pattern: '^(encoder\.pooler|heads)\.', trainable: true}"  # where there is one
STRATEGIES: dict[str, list[str]] = {
    "full": [],
    "head": ["--plan.preset=head", HEAD_RULE, "--optim.learning_rate=1e-1"],
    "last_n": ["--plan.preset=last_n", "--plan.n=2"],
    "freeze_embeddings": ["--plan.preset=freeze_embeddings"],
    "bias": ["--plan.preset=bias", HEAD_RULE, "--optim.learning_rate=1e-2"],
    "gradual": ["--plan.preset=gradual", "--plan.unfreeze_every=10", "--plan.unfreeze_layers=2"],
    "layerwise_decay": ["--plan.preset=layerwise_decay", "--plan.layer_decay=0.9"],
    "lora": [
        "--plan.preset=lora",
        "--plan.lora.rank=16",
        "--plan.lora.alpha=32",
        "--plan.lora.targets=all",
        f"--plan.rules=[{POOLER}, {{pattern: '^heads\\.', learning_rate: 10}}, {{pattern: '', learning_rate: 5}}]",
    ],
    "adapters": [
        "--plan.preset=adapters",
        "--plan.adapters.size=64",
        f"--plan.rules=[{POOLER}]",
        "--optim.learning_rate=4e-3",
    ],
}
Row = dict[str, Any]


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", default=RESULTS)
    kinds = parser.add_subparsers(dest="what", required=True)
    run = kinds.add_parser("run")
    run.add_argument("--recipes", nargs="+", default=list(DATA))
    run.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    costs = kinds.add_parser("cost")
    costs.add_argument("--recipe", default=DATA[0])
    costs.add_argument("--rounds", type=int, default=7)
    kinds.add_parser("write")
    args = parser.parse_args(argv)
    results = Path(args.results)
    if args.what == "write":
        write(Path(PAGE), table(recipes.read(results), record.read(COSTS)["rows"]))
        return
    write_few(Path(FEW))
    if args.what == "cost":
        recipe, *options = args.recipe.split(" ")
        for row in cost(recipe, options, args.rounds):
            record.add(COSTS, row, "strategy", "device")
        return
    for data in args.recipes:
        for seed in args.seeds:
            for strategy in args.strategies:
                measure(data, strategy, seed, results)


def write(page: Path, lines: list[str]) -> None:
    """Write a table between its marks in a page."""
    text, made = page.read_text(encoding="utf-8"), "\n".join([BEGIN, *lines, END])
    page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: made, text, flags=re.DOTALL), encoding="utf-8")


def write_few(path: Path, each: int = 20) -> None:
    """Write a limited number of questions of each intent of banking77."""
    header, *rows = csv.reader(Path("configs/data/banking77/train.csv").read_text(encoding="utf-8").splitlines())
    seen: Counter[str] = Counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            seen[row[-1]] += 1
            if seen[row[-1]] <= each:
                writer.writerow(row)


def measure(data: str, strategy: str, seed: int, results: Path) -> None:
    """Run one training and add it to the results, unless it is there already."""
    recipe, *options = data.split(" ")
    options = [*options, *STRATEGIES[strategy]]
    key = {"recipe": recipe, "options": options, "side": strategy, "seed": seed}
    recipes.add(results, key, partial(recipes.train_jaxft, recipe, [*options, f"--seed={seed}"]))


def cost(recipe: str, options: list[str], rounds: int) -> list[Row]:
    """Step time, memory and trained parameters of each strategy, measured in turn; for staged plans the first stage."""
    from benchmarks.step import Step
    from jaxft.run.setup import make_run

    chosen = backend.start(distributed="off")
    steps, trained = {}, {}
    for strategy, own in STRATEGIES.items():
        run = make_run(cli.load([recipe, *options, *own]))
        settings = run.plan.settings
        counts = {name: x.size for name, x in tree.unstack(run.params).items()}
        trained[strategy] = sum(counts[name] for name in counts if settings[name].trainable) / sum(counts.values())
        steps[strategy] = Step(run)
        steps[strategy].measure(2)
    found = record.in_turn({name: partial(step.measure, 2) for name, step in steps.items()}, rounds)
    base = steps["full"].memory
    return [
        {"strategy": name, "device": chosen.device, "recipe": recipe, "trained": trained[name]}
        | {"memory": steps[name].memory, "memory_ratio": steps[name].memory / base}
        | row
        for name, row in record.compare(found, "full").items()
    ]


def table(rows: list[Row], costs: list[Row]) -> list[str]:
    """A Markdown table with a row per strategy: scores with standard deviations, and costs relative to `full`."""
    sets = list(dict.fromkeys(row["recipe"] for row in rows))
    metrics = {data: next(row["metric"] for row in rows if row["recipe"] == data) for data in sets}
    head = [f"{Path(data).stem} {metrics[data].partition('/')[2]}" for data in sets]
    lines = [f"| strategy | {' | '.join(head)} | trained | step | memory |", "|---" * (len(sets) + 4) + "|"]
    by_name = {row["strategy"]: row for row in costs}
    for strategy in STRATEGIES:
        own = [row for row in rows if row["side"] == strategy]
        scores = [recipes.mean([row for row in own if row["recipe"] == data]) for data in sets]
        row = by_name[strategy]
        ratios = (f"{x:.2f}" + " to 1.00" * (strategy == "gradual") for x in (row["ratio"]["median"], row["memory_ratio"]))
        cells = [f"`{strategy}`", *scores, f"{row['trained']:.1%}", *ratios]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    cli.run_main(main)
