"""The IMDB reviews (Maas et al. 2011) as a saved Arrow directory for data.dataset.

    python configs/data/imdb.py ARCHIVE_OR_DIRECTORY... --output runs/data/imdb

Give aclImdb_v1.tar.gz of https://ai.stanford.edu/~amaas/data/sentiment (or parts of it packed on their own), or the
folder aclImdb. Splits: train and test (text, label neg or pos), unsupervised (text, without the 1,000 of
unsupervised_held_out), and
slices such as train_500: so many labelled reviews, as many of each label, chosen by --seed.

With --sst2 FOLDER, GLUE's sentences of critics are further splits, sst2 and sst2_dev, with the same labels, and the texts of
unsupervised are also in a file of their own, unsupervised.jsonl.
"""

import argparse
import csv
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

HELD_OUT = 1000


def reviews(source: Path) -> Iterator[tuple[str, str]]:
    """(name such as train/pos/0_9.txt, text) of every review."""
    if source.is_dir():
        for path in source.rglob("*.txt"):
            yield "/".join(path.parts[-3:]), path.read_text(encoding="utf-8")
        return
    with tarfile.open(source) as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)):
                yield "/".join(Path(member.name).parts[-3:]), file.read().decode("utf-8")


def sentences(path: Path) -> list[dict[str, str]]:
    """The rows of a file of SST-2."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [{"text": row["sentence"], "label": ("neg", "pos")[int(row["label"])]} for row in rows]


def main() -> None:
    """Write the splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, metavar="ARCHIVE_OR_DIRECTORY")
    parser.add_argument("--output", default="runs/data/imdb", type=Path)
    parser.add_argument("--slices", nargs="+", default=["train_500", "test_2000"], metavar="SPLIT_SIZE")
    parser.add_argument("--seed", type=int, default=0, help="of the slices and the held-out texts")
    parser.add_argument("--sst2", type=Path, metavar="FOLDER", help="with train.tsv and dev.tsv")
    args = parser.parse_args()
    found: dict[str, list[dict[str, str]]] = {"train": [], "test": [], "unsupervised": []}
    # Sorted by name, so that archive and folder give the same splits.
    for name, text in sorted(review for source in args.sources for review in reviews(source)):
        match name.split("/"):
            case [("train" | "test") as split, ("neg" | "pos") as label, _]:
                found[split].append({"text": text, "label": label})
            case ["train", "unsup", _]:
                found["unsupervised"].append({"text": text})
    if not any(found.values()):
        parser.error(f"no reviews (train/pos/...) in {', '.join(map(str, args.sources))}: give an archive, or aclImdb")
    chosen = random.Random(args.seed)
    for rows in found.values():
        chosen.shuffle(rows)
    unlabelled = found.pop("unsupervised")
    found |= {"unsupervised": unlabelled[HELD_OUT:], "unsupervised_held_out": unlabelled[:HELD_OUT]}
    for name in args.slices:
        split, _, size = name.rpartition("_")
        each = [[row for row in found[split] if row["label"] == label][: int(size) // 2] for label in ("neg", "pos")]
        found[name] = [row for pair in zip(*each, strict=True) for row in pair]

    if args.sst2:
        found |= {"sst2": sentences(args.sst2 / "train.tsv"), "sst2_dev": sentences(args.sst2 / "dev.tsv")}
        chosen.shuffle(found["sst2"])

    import datasets

    splits = {name: datasets.Dataset.from_list(rows) for name, rows in found.items() if rows}
    datasets.DatasetDict(splits).save_to_disk(str(args.output))
    if args.sst2:
        lines = "".join(f"{json.dumps(row)}\n" for row in found["unsupervised"])
        (args.output / "unsupervised.jsonl").write_text(lines, encoding="utf-8")
    print({name: len(rows) for name, rows in splits.items()})


if __name__ == "__main__":
    main()
