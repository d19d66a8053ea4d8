"""What each augmentation gains with few labels: the same runs with and without it, over several seeds.

python -m benchmarks.augmentation banking77 sst2 wnut17                   # augmentation
python -m benchmarks.augmentation "banking77 and texts" "sst2 and texts"  # consistency training and self-training
python -m benchmarks.augmentation "sst2 and adversaries" ...              # adversarial training
python -m benchmarks.augmentation                                         # writes the tables

Each run is a row of the output file; a row that is there is not run again. All methods of a set have the same labelled rows
(drawn by the seed), the same number of steps and the same test rows.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pages, record
from benchmarks.command import check_names, make_parser
from benchmarks.real_texts import snips_intents
from benchmarks.tables import Row, add_missing, read_lines, read_table, write_rows
from jaxft import self_train
from jaxft.config import cli
from jaxft.train import train

Method = tuple[str | self_train.Options, ...]
RESULTS = "augmentation.jsonl"
COMMON = ("--checkpoint.every=end", "--checkpoint.select=last", "--log.progress=false")


def steps(*names: str, rate: float = 0.1, **more: Any) -> tuple[str, ...]:
    """The option with these steps of augmentation."""
    return (f"--augment.steps={json.dumps([{'step': name, 'rate': rate, **more} for name in names])}",)


NEAR: dict[str, Any] = {"source": "embeddings"}
EDA = json.dumps(
    [{"step": "delete"}, {"step": "swap"}, {"step": "insert", **NEAR}, {"step": "replace", **NEAR}],
)
METHODS: dict[str, Method] = {
    "none": (),
    "delete": steps("delete"),
    "swap": steps("swap"),
    "insert": steps("insert", **NEAR),
    "replace": steps("replace", **NEAR),
    "eda": (f"--augment.steps={EDA}", "--augment.apply=one"),
    "spelling": steps("spelling"),
    "keyboard": steps("keyboard"),
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
SHARP = ("--unlabelled.temperature=0.4", "--unlabelled.confidence=0.8")  # as in the paper
FEW: dict[str, Method] = {
    "none": (),
    "uda": UDA,
    "uda, sharp and confident": (*UDA, *SHARP),
    "uda, sharp, confident and annealing": (*UDA, *SHARP, "--unlabelled.annealing=exp"),
    "self-training": (self_train.Options(rounds=2, threshold=0.9),),
}
ADVERSARIES: dict[str, Method] = {
    "none": (),
    **{name: (f"--adversarial.method={name}",) for name in ("fgm", "pgd", "freelb", "smart", "vat")},
}
AND_LARGER: dict[str, Method] = ADVERSARIES | {
    "fgm, epsilon 0.3": (*ADVERSARIES["fgm"], "--adversarial.epsilon=0.3"),
    "freelb, step_size 0.1": (*ADVERSARIES["freelb"], "--adversarial.step_size=0.1"),
    "vat, epsilon 1": (*ADVERSARIES["vat"], "--adversarial.epsilon=1"),
}
MENTIONS: dict[str, Method] = {
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
    """A data set: its recipe, the options of all runs, steps by labels, classes that are used, methods, metric.

    `rows` reads a split; None reads the files of the recipe.
    """

    recipe: str
    options: tuple[str, ...]
    steps: dict[int, int]
    classes: int | None
    methods: dict[str, Method]
    metric: str = "accuracy"
    rows: Callable[[str], list[Row]] | None = None


BANKING = ("configs/banking77.yaml", ("--data.max_length=48",))
SMALL_BATCHES = (BANKING[0], (*BANKING[1], "--train.batch_size=16"))  # texts without labels make a step seven times as large
BRIEF = ("none", "uda", "uda, sharp, confident and annealing", "self-training")
SST2 = ("configs/sst2.yaml", ("--data.max_length=64", "--train.batch_size=16", "--optim.learning_rate=1e-4"))
SETS = {
    "banking77": Set(*BANKING, {10: 120, 50: 120}, 20, METHODS),
    "sst2": Set(*SST2, {10: 60, 50: 100, 500: 250}, None, METHODS),
    "banking77 and texts": Set(*SMALL_BATCHES, {20: 120}, 20, {name: FEW[name] for name in BRIEF}),
    "sst2 and texts": Set(*SST2, {20: 100}, None, FEW),
    "wnut17": Set("configs/wnut17.yaml", (), {200: 200}, None, MENTIONS, "f1"),
    "sst2 and adversaries": Set(*SST2, {50: 60, 500: 120}, None, AND_LARGER),
    "snips and adversaries": Set("configs/clinc150.yaml", SST2[1], {50: 60, 500: 120}, None, AND_LARGER, rows=snips_intents),
    "wnut17 and adversaries": Set("configs/wnut17.yaml", ("--train.batch_size=8",), {500: 100}, None, ADVERSARIES, "f1"),
}


def data_options(name: str, labels: int, seed: int, work: Path) -> tuple[list[str], Path]:
    """(options for the data, the file of texts without labels).

    The training data are `labels` rows of each class drawn at random, or `labels` sentences of a tagged file.
    """
    own = SETS[name]
    config = cli.load([own.recipe])
    rng, test = np.random.default_rng(seed), config.data.test or config.data.validation
    folder = work / "data" / f"{name}-{labels}-{seed}"
    if name.startswith("wnut17"):
        sentences = Path(str(config.data.train)).read_text(encoding="utf-8").strip().split("\n\n")
        chosen = rng.permutation(len(sentences))[:labels]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"train{Path(str(config.data.train)).suffix}"
        path.write_text("\n\n".join(sentences[i] for i in sorted(chosen)) + "\n", encoding="utf-8")
        return [f"--data.train={path}", "--data.validation=null", f"--data.test={test}"], folder
    label, read = str(config.data.label), own.rows or (lambda split: read_table(str(vars(config.data)[split])))
    rows = read("train")
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
    texts = write_rows(folder / "unlabelled.jsonl", others)
    judged = [row for row in read("test" if config.data.test else "validation") if row[label] in names]
    paths = write_rows(folder / "train.jsonl", few), write_rows(folder / "test.jsonl", judged)
    return [f"--data.train={paths[0]}", "--data.validation=null", f"--data.test={paths[1]}"], texts


def measure(name: str, labels: int, method: str, seed: int, work: Path) -> dict[str, Any]:
    """The row of one run, whose directory is removed."""
    own = SETS[name]
    folder = work / f"{name}-{labels}-{method}-{seed}".replace(" ", "_").replace(",", "")
    data, texts = data_options(name, labels, seed, work)
    given = own.methods[method]
    options = [option.replace(UNLABELLED, str(texts)) for option in given if not isinstance(option, self_train.Options)]
    options += [*data, f"--train.max_steps={own.steps[labels]}", f"--seed={seed}", f"--output_dir={folder}"]
    config = cli.load([own.recipe, *COMMON, *own.options, *options])
    found: dict[str, Any] = {"set": name, "labels": labels, "method": method, "seed": seed, "metric": own.metric}
    if rounds := [option for option in given if isinstance(option, self_train.Options)]:
        done = self_train.self_train(config, str(texts), rounds[0])
        found |= {"score": done[-1]["scores"][f"test/{own.metric}"], "pseudo_labels": done[-1]["pseudo_labels"]}
    else:
        found["score"] = train(config)[f"test/{own.metric}"]
    shutil.rmtree(folder)
    return found


def table(rows: list[dict[str, Any]], name: str, columns: dict[str, Callable[[dict[str, Any]], bool]]) -> list[str]:
    """A table with a line for each method.

    A cell is the mean score of the seeds and its standard deviation, then the mean difference to "none" with the same rows,
    and the standard error of that mean: a difference of less than two standard errors may be chance. A method that has not
    been run with all seeds says with how many, and a column without any run is left out.
    """
    columns = {column: wanted for column, wanted in columns.items() if any(map(wanted, rows))}
    cells: dict[str, dict[str, str]] = {}
    for column, wanted in columns.items():
        scores = {(row["method"], row["seed"]): 100 * row["score"] for row in rows if wanted(row)}
        seeds = sorted({seed for _, seed in scores})
        for method in dict.fromkeys(method for method, _ in scores):
            own = [seed for seed in seeds if (method, seed) in scores]
            found = np.array([scores[method, seed] for seed in own])
            gain = found - [scores["none", seed] for seed in own]
            spread, error = "", ""
            if len(own) > 1:
                spread, error = f" ± {found.std(ddof=1):.1f}", f" ± {gain.std(ddof=1) / len(own) ** 0.5:.1f}"
            few = f"; {len(own)} seed{'s' if len(own) > 1 else ''}" if len(own) < len(seeds) else ""
            shown = "" if method == "none" else f" ({gain.mean():+.1f}{error}{few})"
            cells.setdefault(method, {})[column] = f"{found.mean():.1f}{spread}{shown}"
    return pages.table([name, *columns], [[method, *(line.get(x, "") for x in columns)] for method, line in cells.items()])


def of(name: str, labels: int) -> Callable[[dict[str, Any]], bool]:
    """Whether a row is of a set with this many labels."""
    return lambda row: (row["set"], row["labels"]) == (name, labels)


def write_pages(rows: list[dict[str, Any]]) -> None:
    """Write the tables into docs/augmentation.md, docs/few_labels.md and docs/robust.md."""
    columns = {
        f"{title}, {labels} per class": of(name, labels)
        for name, title in (("banking77", "banking77"), ("sst2", "SST-2"))
        for labels in SETS[name].steps
    }
    pages.write(
        Path("docs/augmentation.md"),
        {
            "gains": table(rows, "method", columns),
            "mentions": table(rows, "method", {"F1": of("wnut17", 200)}),
            "cost": cost_table("augmentation"),
        },
    )
    texts = {"banking77": of("banking77 and texts", 20), "SST-2": of("sst2 and texts", 20)}
    pages.write(Path("docs/few_labels.md"), {"texts": table(rows, "method", texts)})
    columns = {
        f"{title}, {labels} {what}": of(f"{name} and adversaries", labels)
        for name, title, what in (
            ("sst2", "SST-2", "per class"),
            ("snips", "SNIPS intents", "per class"),
            ("wnut17", "WNUT-17 (F1)", "sentences"),
        )
        for labels in SETS[f"{name} and adversaries"].steps
    }
    pages.write(Path("docs/robust.md"), {"gains": table(rows, "method", columns), "cost": cost_table("adversarial")})


def cost_table(what: str) -> list[str]:
    """A table of what `benchmarks.costs` measured."""
    rows = record.read(record.RESULTS / f"{what}_cost.json")["rows"]
    cells = [
        [row["side"], f"{row['ratio']['median']:.2f} ({', '.join(map(str, row['ratio']['quartiles']))})"] for row in rows
    ]
    return pages.table(["run", 'time of an epoch, times that of "none" (quartiles)'], cells)


def main(argv: list[str]) -> None:
    """Run what is not in the output file yet, and append it; or write the tables."""
    parser = make_parser(__doc__, RESULTS)
    parser.add_argument("sets", nargs="*", help="none writes the tables into the pages")
    parser.add_argument("--labels", type=int, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--work", default="runs/augmentation")
    args = parser.parse_args(argv)
    check_names("set", args.sets, SETS)
    if not args.sets:
        write_pages(read_lines(Path(args.output)))
    keys = [
        {"set": name, "labels": labels, "method": method, "seed": seed}
        for name, seed in product(args.sets, args.seeds)
        for labels, method in product(args.labels or SETS[name].steps, args.methods or SETS[name].methods)
    ]
    work = Path(args.work)
    add_missing(Path(args.output), keys, lambda x: measure(x["set"], x["labels"], x["method"], x["seed"], work))


if __name__ == "__main__":
    cli.run_main(main)
