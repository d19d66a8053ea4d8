"""Compare strategies on the same data: score, trained parameters, step time, memory. The table is in docs/strategies.md.

    python -m benchmarks.strategies run [--recipes configs/mrpc.yaml ...] [--strategies full lora ...] [--seeds 0 1 2]
    python -m benchmarks.strategies cost     # measure steps of all strategies in turn, on the first recipe's batches
    python -m benchmarks.strategies write    # write the table into docs/strategies.md

Each strategy is a few options on top of a recipe, whose learning rate suits `full`. Scores are added to a JSON file
(--results) after each training; results with the same settings are not measured again.
"""

import csv
from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path

from benchmarks import pages, recipes, record
from benchmarks.command import make_parser
from benchmarks.record import Row
from jaxft.config import cli
from jaxft.core import backend, tree

RESULTS, COSTS = "benchmarks/results/strategies.json", "benchmarks/results/strategy_costs.json"
PAGE = "docs/strategies.md"
FEW = "runs/data/banking77_20.csv"  # written here: the first 20 questions of each intent
# Little data, a minute each, with scores far from chance: 77 intents, words and sentences.
DATA = (
    f"configs/banking77.yaml --data.train={FEW} --train.epochs=3",
    "configs/snips_slots.yaml",
    "configs/sst2.yaml --data.max_train_examples=3000 --train.epochs=1",
)
ONE_RATE = "--plan.rules=[]"  # the learning rate of the head is not raised
POOLER = r"{pattern: '^(encoder\.pooler|heads)\.', trainable: true}"  # for models with a pooler
STRATEGIES: dict[str, list[str]] = {
    "full": [],
    "head": ["--plan.preset=head", ONE_RATE, "--optim.learning_rate=1e-1"],
    "last_n": ["--plan.preset=last_n", "--plan.n=2"],
    "freeze_embeddings": ["--plan.preset=freeze_embeddings"],
    "bias": ["--plan.preset=bias", ONE_RATE, "--optim.learning_rate=1e-2"],
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


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__)
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
        pages.write(Path(PAGE), {"strategies": table(recipes.read(results), record.rows(COSTS))})
        return
    write_few(Path(FEW))
    if args.what == "cost":
        recipe, *options = args.recipe.split(" ")
        for row in cost(recipe, options, args.rounds):
            record.add(COSTS, row, "strategy", "device")
        return
    for data, seed, strategy in product(args.recipes, args.seeds, args.strategies):
        recipe, *options = data.split(" ")
        options += STRATEGIES[strategy]
        key = {"recipe": recipe, "options": options, "side": strategy, "seed": seed}
        recipes.add(results, key, partial(recipes.train_jaxft, recipe, [*options, f"--seed={seed}"]))


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
    columns = [f"{Path(data).stem} {metrics[data].partition('/')[2]}" for data in sets]
    body, by_name = [], {row["strategy"]: row for row in costs}
    for strategy in STRATEGIES:
        own = [row for row in rows if row["side"] == strategy]
        scores = [recipes.mean([row for row in own if row["recipe"] == data]) for data in sets]
        row = by_name[strategy]
        ratios = (f"{x:.2f}" + " to 1.00" * (strategy == "gradual") for x in (row["ratio"]["median"], row["memory_ratio"]))
        body.append([f"`{strategy}`", *scores, f"{row['trained']:.1%}", *ratios])
    return pages.table(["strategy", *columns, "trained", "step", "memory"], body)


if __name__ == "__main__":
    cli.run_main(main)
