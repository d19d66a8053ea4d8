"""Ways to fine-tune on the same data: score, what is trained, time of a step, memory. docs/strategies.md has its table.

    python -m benchmarks.strategies run [--recipes configs/mrpc.yaml ...] [--strategies full lora ...] [--seeds 0 1 2]
    python -m benchmarks.strategies write    # the table into docs/strategies.md

Each strategy is a few options on top of a recipe, whose learning rate suits `full`. Seed by seed all strategies run in
turn, so that times of a step can be compared. Results are added to a JSON file (--results) after each training; what is
there already, from the same settings, is not run again.
"""

import argparse
import json
import re
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import recipes
from jaxft import cli

RESULTS, PAGE = "benchmarks/results/strategies.json", "docs/strategies.md"
BEGIN, END = "<!-- strategies -->", "<!-- /strategies -->"
# Little data, some minutes each, with scores far from chance; sentences, words and 77 intents.
DATA = (
    "configs/banking77.yaml --data.max_train_examples=1500 --train.epochs=3 --data.max_eval_examples=1000",
    "configs/snips_slots.yaml --data.max_train_examples=3000 --train.epochs=1",
    "configs/sst2.yaml --data.max_train_examples=3000 --train.epochs=1",
)
HEAD_RULE = "--plan.rules=[]"  # what trains little learns at one rate
STRATEGIES: dict[str, list[str]] = {
    "full": [],
    "head": ["--plan.preset=head", HEAD_RULE, "--optim.learning_rate=1e-2"],
    "last_n": ["--plan.preset=last_n", "--plan.n=2"],
    "freeze_embeddings": ["--plan.preset=freeze_embeddings"],
    "bias": ["--plan.preset=bias", HEAD_RULE, "--optim.learning_rate=4e-3"],
    "gradual": ["--plan.preset=gradual", "--plan.unfreeze_every=0.05 epochs"],
    "layerwise_decay": ["--plan.preset=layerwise_decay", "--plan.layer_decay=0.9"],
    "lora": ["--plan.preset=lora", "--plan.lora.rank=16", "--plan.lora.alpha=32", "--plan.lora.targets=[all]"],
    "adapters": ["--plan.preset=adapters", "--plan.adapters.size=64"],
}
for name in ("lora", "adapters"):
    pooler = "--plan.rules=[{pattern: '^encoder\\.pooler\\.', trainable: true}]"
    STRATEGIES[name] += [pooler, "--optim.learning_rate=4e-3"]
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
    kinds.add_parser("write")
    args = parser.parse_args(argv)
    results = Path(args.results)
    if args.what == "write":
        text = Path(PAGE).read_text(encoding="utf-8")
        made = "\n".join([BEGIN, *table(recipes.read(results)), END])
        Path(PAGE).write_text(re.sub(f"{BEGIN}.*{END}", lambda _: made, text, flags=re.DOTALL), encoding="utf-8")
        return
    for data in args.recipes:
        for seed in args.seeds:
            for strategy in args.strategies:
                measure(data, strategy, seed, results)


def measure(data: str, strategy: str, seed: int, results: Path) -> None:
    """One training, added to the results unless it is there."""
    recipe, *options = data.split(" ")
    options = [*options, *STRATEGIES[strategy]]
    key = {"recipe": recipe, "options": options, "side": strategy, "seed": seed}
    recipes.add(results, key, partial(train, recipe, [*options, f"--seed={seed}"]))


def train(recipe: str, options: list[str]) -> Row:
    """The figures of a run, which is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        argv = [recipe, *options, f"--output_dir={folder}/run", "--log.progress=false", "--log.every=5"]
        said = recipes.output("jaxft.train", argv)
        journal = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    metric = recipes.metric_of([recipe, *options])
    speeds = [row["examples_per_second"] for row in journal if "examples_per_second" in row]
    trained, frozen = (int(re.search(rf"([\d,]+) {what}", said)[1].replace(",", "")) for what in ("trained", "frozen"))
    return {
        "metric": metric,
        "score": journal[-1][metric],
        "steps": journal[-1]["step"],
        "step_seconds": cli.load(argv).train.batch_size / statistics.median(speeds),
        "trained": trained / (trained + frozen),
        "memory": memory(argv),
    }


def memory(argv: list[str]) -> int:
    """Bytes of the compiled step (arguments and temporaries) at its largest shape, in the last stage."""
    from jaxft import costs, runtime
    from jaxft.setup import make_run

    runtime.start(distributed="off")
    found = costs.step_costs(make_run(cli.load(argv)))
    return max(steps[-1].arguments + steps[-1].temporary for steps in found.values())


def table(rows: list[Row]) -> list[str]:
    """Markdown: a row a strategy; score with its standard deviation for each set, the rest over all sets."""
    sets = list(dict.fromkeys(row["recipe"] for row in rows))
    metrics = {data: next(row["metric"] for row in rows if row["recipe"] == data) for data in sets}
    head = [f"{Path(data).stem} {metrics[data].partition('/')[2]}" for data in sets]
    lines = [f"| strategy | {' | '.join(head)} | trained | step | memory |", "|---" * (len(sets) + 4) + "|"]
    for strategy in STRATEGIES:
        own = [row for row in rows if row["side"] == strategy]
        if not own:
            continue
        scores = [recipes.mean([row for row in own if row["recipe"] == data]) for data in sets]
        ratios = {what: statistics.median(relative(rows, row, what) for row in own) for what in ("step_seconds", "memory")}
        share = statistics.mean(row["trained"] for row in own)
        cells = [f"`{strategy}`", *scores, f"{share:.1%}", f"{ratios['step_seconds']:.2f}", f"{ratios['memory']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def relative(rows: list[Row], row: Row, what: str) -> float:
    """A number over that of `full` on the same data and seed."""
    same = [x for x in rows if x["side"] == "full" and (x["recipe"], x["seed"]) == (row["recipe"], row["seed"])]
    return row[what] / same[0][what]


if __name__ == "__main__":
    cli.run_main(main)
