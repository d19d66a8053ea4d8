"""Labels that are wrong, and labels that are missing: what suspicious_labels finds, and what self_train gains.

python -m benchmarks.label_errors suspicious banking77 sst2   # 5 % of the labels of a slice are flipped at random
python -m benchmarks.label_errors self_train banking77 sst2   # 20 labels a class, and other rows without labels

Each measurement is a row of the output file; a row that is there is not measured again.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import check_names, make_parser
from benchmarks.tables import read_table, write_rows
from jaxft import self_train, suspicious_labels
from jaxft.config import Config, cli

SHARE = 0.05  # of the labels that are flipped
PER_CLASS = 20  # labelled rows of each class
RESULTS = "label_errors.jsonl"


@dataclass(frozen=True)
class Set:
    """A data set.

    Attributes:
      recipe: the config whose model, columns and learning rates are used.
      slice: number of training rows that are used, drawn at random.
      unlabelled: largest number of these that have no label in self-training.
      finding: options of the runs that look for flipped labels.
      learning: options of the rounds of self-training.
    """

    recipe: str
    slice: int
    unlabelled: int
    finding: tuple[str, ...]
    learning: tuple[str, ...]


SETS = {
    "banking77": Set("configs/head_banking77.yaml", 4000, 2460, (), ()),
    "sst2": Set("configs/sst2.yaml", 4000, 1500, ("--train.epochs=1",), ("--train.max_steps=60",)),
}
COMMON = ("--eval.every=end", "--checkpoint.every=end", "--log.progress=false", "--runtime.distributed=off")


def read_slice(name: str, seed: int) -> tuple[Config, list[str], list[str]]:
    """(the config of the recipe, the texts and the labels of a random slice of its training rows)."""
    config = cli.load([SETS[name].recipe, *COMMON])
    rows = read_table(str(config.data.train))
    chosen = np.random.default_rng(seed).permutation(len(rows))[: SETS[name].slice]
    return config, [rows[i][config.data.text] for i in chosen], [rows[i][str(config.data.label)] for i in chosen]


def write(path: Path, columns: dict[str, list[str]]) -> Path:
    """Write columns as a jsonl file."""
    return write_rows(path, (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)))


def measure_suspicious(name: str, seed: int, work: Path) -> dict[str, Any]:
    """Flip labels, cross-validate, and count how many of the flipped rows are listed, and how far up."""
    config, texts, labels = read_slice(name, seed)
    rng, names = np.random.default_rng([seed, 1]), sorted(set(labels))
    flipped = rng.choice(len(labels), round(SHARE * len(labels)), replace=False)
    for i in flipped:
        labels[i] = rng.choice([x for x in names if x != labels[i]])
    train = write(work / "train.jsonl", {config.data.text: texts, str(config.data.label): labels})
    run = cli.load(
        [
            SETS[name].recipe,
            *COMMON,
            *SETS[name].finding,
            f"--data.train={train}",
            "--data.validation=null",
            f"--seed={seed}",
        ]
    )
    wrong, found = set((flipped + 1).tolist()), dict[str, Any]()
    for rule in ("all", "noise_rate", "confident"):  # the runs are made once
        listed = [row["row"] for row in suspicious_labels.suspicious_labels(run, 5, work / "folds", rule)]
        if rule == "all":
            first = listed[: len(texts) // 10]
            found["recall of the first 10 %"] = len(wrong & set(first)) / len(wrong)
            continue
        found |= {f"{rule}: rows": len(listed), f"{rule}: precision": len(wrong & set(listed)) / len(listed)}
        found[f"{rule}: recall"] = len(wrong & set(listed)) / len(wrong)
    return found


def measure_self_train(name: str, seed: int, work: Path) -> dict[str, Any]:
    """Train on a few labels of each class, then with pseudo-labels for the other rows of the slice; scores by round."""
    config, texts, labels = read_slice(name, seed)
    seen, few, rest = dict.fromkeys(labels, 0), [], []
    for i, label in enumerate(labels):
        (few if seen[label] < PER_CLASS else rest).append(i)
        seen[label] += 1
    rest = rest[: SETS[name].unlabelled]
    text, label = config.data.text, str(config.data.label)
    train = write(work / "train.jsonl", {text: [texts[i] for i in few], label: [labels[i] for i in few]})
    unlabelled = write(work / "unlabelled.jsonl", {text: [texts[i] for i in rest]})
    options = [*SETS[name].learning, f"--data.train={train}", f"--output_dir={work / 'rounds'}", f"--seed={seed}"]
    rounds = self_train.self_train(
        cli.load([SETS[name].recipe, *COMMON, *options]), str(unlabelled), self_train.Options(rounds=2, threshold=0.9)
    )
    split = "test" if config.data.test else "eval"
    found: dict[str, Any] = {"labelled": len(few), "unlabelled": len(rest)}
    for number, results in enumerate(rounds):
        found |= {
            f"round {number}": results["scores"][f"{split}/accuracy"],
            f"pseudo-labels {number}": results["pseudo_labels"],
        }
    truth = {i + 1: labels[row] for i, row in enumerate(rest)}
    for number in range(1, len(rounds)):
        lines = (work / "rounds" / f"pseudo_labels-{number}.jsonl").read_text(encoding="utf-8").splitlines()
        right = [str(row[label]) == truth[row["row"]] for row in map(json.loads, lines)]
        found[f"pseudo-labels {number} right"] = float(np.mean(right))
    return found


def main(argv: list[str]) -> None:
    """Measure, and append the rows to the output file."""
    parser = make_parser(__doc__, RESULTS)
    parser.add_argument("what", choices=("suspicious", "self_train"))
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", default="runs/label_errors", help="directory of the runs, where it resumes")
    args = parser.parse_args(argv)
    check_names("set", args.sets, SETS)
    output, known = Path(args.output), []
    if output.exists():
        known = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    measure = measure_suspicious if args.what == "suspicious" else measure_self_train
    for seed in args.seeds:
        for name in args.sets:
            key = {"what": args.what, "set": name, "seed": seed}
            if any(key.items() <= row.items() for row in known):
                continue
            row = {**key, **measure(name, seed, Path(args.work) / f"{args.what}-{name}-{seed}")}
            with open(output, "a", encoding="utf-8") as file:
                file.write(f"{json.dumps(row)}\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
