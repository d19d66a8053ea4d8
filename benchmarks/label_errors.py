"""What suspicious_labels finds if 5 % of the labels of a slice are flipped at random.

python -m benchmarks.label_errors banking77 sst2

Each measurement is a row of the output file; a row that is there is not measured again.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import check_names, make_parser
from benchmarks.tables import add_missing, read_table, write_rows
from jaxft import suspicious_labels
from jaxft.config import Config, cli

SHARE = 0.05  # of the labels that are flipped
RESULTS = "label_errors.jsonl"


@dataclass(frozen=True)
class Set:
    """A data set.

    Attributes:
      recipe: the config whose model, columns and learning rates are used.
      slice: number of training rows that are used, drawn at random.
      options: of the runs.
    """

    recipe: str
    slice: int
    options: tuple[str, ...]


SETS = {
    "banking77": Set("configs/head_banking77.yaml", 4000, ()),
    "sst2": Set("configs/sst2.yaml", 4000, ("--train.epochs=1",)),
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


def measure(name: str, seed: int, work: Path) -> dict[str, Any]:
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
            *SETS[name].options,
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


def main(argv: list[str]) -> None:
    """Measure, and append the rows to the output file."""
    parser = make_parser(__doc__, RESULTS)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", default="runs/label_errors", help="directory of the runs, where it resumes")
    args = parser.parse_args(argv)
    check_names("set", args.sets, SETS)
    keys = [{"set": name, "seed": seed} for seed, name in product(args.seeds, args.sets)]
    work = Path(args.work)
    add_missing(Path(args.output), keys, lambda x: x | measure(x["set"], x["seed"], work / f"{x['set']}-{x['seed']}"))


if __name__ == "__main__":
    cli.run_main(main)
