"""What each augmentation gains with few labels: the same runs with and without it, over several seeds.

python -m benchmarks.augmentation banking77 sst2 --labels 10 50
python -m benchmarks.augmentation wnut17 --labels 200

Each run is a row of the output file; a row that is there is not run again. All methods of a set have the same labelled rows
(drawn by the seed), the same number of steps and the same test rows.
"""

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import check_names, make_parser
from benchmarks.tables import read_table, write_rows
from jaxft.config import cli
from jaxft.train import train

RESULTS = "augmentation.jsonl"
COMMON = ("--eval.every=end", "--checkpoint.every=end", "--checkpoint.select=last", "--log.progress=false")


def steps(*names: str, rate: float = 0.1, **more: Any) -> tuple[str, ...]:
    """The option with these steps of augmentation."""
    return (f"--augment.steps={json.dumps([{'step': name, 'rate': rate, **more} for name in names])}",)


NEAR: dict[str, Any] = {"source": "embeddings"}
EDA = json.dumps(
    [{"step": "delete"}, {"step": "swap"}, {"step": "insert", **NEAR}, {"step": "replace", **NEAR}],
)
METHODS: dict[str, tuple[str, ...]] = {
    "none": (),
    "delete": steps("delete"),
    "swap": steps("swap"),
    "insert": steps("insert", **NEAR),
    "replace": steps("replace", **NEAR),
    "eda": (f"--augment.steps={EDA}", "--augment.apply=one"),
    "spelling": steps("spelling"),
    "keyboard": steps("keyboard"),
    "case": steps("case"),
    "mask_pieces": steps("mask_pieces"),
    "drop_pieces": steps("drop_pieces"),
    "cutoff_tokens": ("--augment.cutoff_tokens=0.15",),
    "cutoff_span": ("--augment.cutoff_span=0.15",),
    "cutoff_features": ("--augment.cutoff_features=0.15",),
    "mixup": ("--augment.mixup=0.4",),
    "eda and cut-off": (f"--augment.steps={EDA}", "--augment.apply=one", "--augment.cutoff_span=0.15"),
}
# Texts without labels are the other rows of the set, at most MOST_UNLABELLED; UNLABELLED stands for their file.
UNLABELLED, MOST_UNLABELLED = "UNLABELLED", 4000
UDA = (f"--unlabelled.data={UNLABELLED}", f"--augment.steps={EDA}", "--augment.apply=one", "--augment.share=0")
FEW: dict[str, tuple[str, ...]] = {
    "none": (),
    "uda": UDA,
    "uda, sharp and confident": (*UDA, "--unlabelled.temperature=0.4", "--unlabelled.confidence=0.8"),
    "uda, annealing": (*UDA, "--unlabelled.annealing=exp"),
}
MENTIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "replace_mentions": steps("replace_mentions", rate=0.3),
    "replace_tagged": steps("replace_tagged", rate=0.1),
    "shuffle_segments": steps("shuffle_segments", rate=0.3),
    "delete": steps("delete"),
    "mixup": ("--augment.mixup=0.4",),
    "mentions and deletion": (
        "--augment.steps=" + json.dumps([{"step": "replace_mentions", "rate": 0.3}, {"step": "delete", "rate": 0.1}]),
    ),
}


@dataclass(frozen=True)
class Set:
    """A data set: its recipe, the options of all runs, the number of its classes that are used, its methods, its metric."""

    recipe: str
    options: tuple[str, ...]
    classes: int | None
    methods: dict[str, tuple[str, ...]]
    metric: str


SETS = {
    "banking77": Set("configs/banking77.yaml", ("--train.max_steps=200", "--data.max_length=48"), 20, METHODS, "accuracy"),
    "sst2": Set("configs/sst2.yaml", ("--train.max_steps=150", "--data.max_length=64"), None, METHODS, "accuracy"),
    "banking77 and texts": Set(
        "configs/banking77.yaml", ("--train.max_steps=200", "--data.max_length=48"), 20, FEW, "accuracy"
    ),
    "sst2 and texts": Set("configs/sst2.yaml", ("--train.max_steps=150", "--data.max_length=64"), None, FEW, "accuracy"),
    "wnut17": Set("configs/wnut17.yaml", ("--train.max_steps=200",), None, MENTIONS, "f1"),
}


def data_options(name: str, labels: int, seed: int, work: Path) -> list[str]:
    """Options for the labelled rows: `labels` rows of each class drawn at random, or `labels` sentences of a tagged file."""
    own = SETS[name]
    config = cli.load([own.recipe])
    rng, test = np.random.default_rng(seed), config.data.test or config.data.validation
    folder = work / "data" / f"{name}-{labels}-{seed}"
    if name == "wnut17":
        sentences = Path(str(config.data.train)).read_text(encoding="utf-8").strip().split("\n\n")
        chosen = rng.permutation(len(sentences))[:labels]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"train{Path(str(config.data.train)).suffix}"
        path.write_text("\n\n".join(sentences[i] for i in sorted(chosen)) + "\n", encoding="utf-8")
        return [f"--data.train={path}", f"--data.validation={test}", "--data.test=null"]
    label, rows = str(config.data.label), read_table(str(config.data.train))
    names = sorted({row[label] for row in rows})[: own.classes]
    taken: Counter[str] = Counter()
    few, others = [], []
    for i in rng.permutation(len(rows)):
        row = rows[i]
        if row[label] in names and taken[row[label]] < labels:
            taken[row[label]] += 1
            few.append(row)
        elif row[label] in names and len(others) < MOST_UNLABELLED:
            others.append({config.data.text: row[config.data.text]})
    write_rows(folder / "unlabelled.jsonl", others)
    judged = [row for row in read_table(str(test)) if row[label] in names]
    paths = write_rows(folder / "train.jsonl", few), write_rows(folder / "test.jsonl", judged)
    return [f"--data.train={paths[0]}", f"--data.validation={paths[1]}", "--data.test=null"]


def main(argv: list[str]) -> None:
    """Run what is not in the output file yet, and append it."""
    parser = make_parser(__doc__, RESULTS)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--work", default="runs/augmentation")
    args = parser.parse_args(argv)
    check_names("set", args.sets, SETS)
    output, known = Path(args.output), []
    if output.exists():
        known = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    todo = [(labels, seed, name) for labels in args.labels for seed in args.seeds for name in args.sets]
    for labels, seed, name in todo:
        own = SETS[name]
        for method in args.methods or own.methods:
            key = {"set": name, "labels": labels, "method": method, "seed": seed}
            if any(key.items() <= row.items() for row in known):
                continue
            folder = Path(args.work) / f"{name}-{labels}-{method}-{seed}".replace(" ", "_").replace(",", "")
            options = [*data_options(name, labels, seed, Path(args.work)), f"--seed={seed}", f"--output_dir={folder}"]
            texts = str(Path(args.work) / "data" / f"{name}-{labels}-{seed}" / "unlabelled.jsonl")
            method_options = [x.replace(UNLABELLED, texts) for x in own.methods[method]]
            config = cli.load([own.recipe, *COMMON, *own.options, *method_options, *options])
            row = {**key, "metric": own.metric, "score": train(config)[f"eval/{own.metric}"]}
            with open(output, "a", encoding="utf-8") as file:
                file.write(f"{json.dumps(row)}\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
