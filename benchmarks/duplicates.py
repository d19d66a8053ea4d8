"""Duplicates: seconds and memory of the search, planted ones that it finds, shingles, and what the data sets hold.

python -m benchmarks.duplicates large [--texts 1000000]   # texts recombined from real ones, in a process of its own
python -m benchmarks.duplicates leaks                     # 500 planted between the splits of several sets
python -m benchmarks.duplicates shingles                  # which edits each kind of shingle finds, by similarity
python -m benchmarks.duplicates sets                      # of every set of ../shared/data, within and between splits
python -m benchmarks.duplicates page                      # the tables of docs/cleaning.md
"""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import chain

import numpy as np

from benchmarks import pages, real_texts, record
from benchmarks.command import make_parser
from benchmarks.memory import resident
from benchmarks.real_texts import SPLITS
from jaxft.data.cleaning.duplicates import SIMILARITY, exact_groups, near_duplicates
from jaxft.data.cleaning.forms import exact_form, word_form
from tests.support import ROOT, planted

PAGE = ROOT / "docs/cleaning.md"
SOURCES = ("banking77", "clinc150", "snips", "SST-2", "CoLA")
LEAKED = ("banking77", "clinc150", "snips", "SST-2", "chnsenticorp")
SIMILARITIES = (0.7, 0.75, 0.8)


def recombined(count: int, rng: random.Random) -> list[str]:
    """Texts of the beginning of one real text and the end of another, all different."""
    sources = [text for name, splits in real_texts.read(SOURCES) for text in chain(*splits.values())]
    words = [text.split() for text in sources]
    words = [x for x in words if 6 <= len(x) <= 40]
    found: dict[str, None] = {}
    while len(found) < count:
        left, right = rng.choice(words), rng.choice(words)
        found[" ".join([*left[: (len(left) + 1) // 2], *right[len(right) // 2 :]])] = None
    return list(found)


def large(texts: int) -> record.Row:
    """Search `texts` texts, of which 1 % are planted copies and edits of others."""
    rng = random.Random(0)
    copies = texts // 100
    data = recombined(texts - copies, rng)
    words = sum(len(text.split()) for text in data) / len(data)
    sources = rng.sample(range(len(data)), copies)
    kinds = ["exact", *planted.KINDS]
    pairs = {}
    for i, row in enumerate(sources):
        kind = kinds[i % len(kinds)]
        pairs[row, len(data)] = kind
        data.append(data[row] if kind == "exact" else planted.KINDS[kind](data[row], rng))
    before = resident()
    start, cpu = time.perf_counter(), time.process_time()
    groups = exact_groups(data)
    found = near_duplicates(data)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    rows = {(pair.first, pair.second) for pair in found}
    counts, planted_counts = Counter(kind for pair, kind in pairs.items() if pair in rows), Counter(pairs.values())
    return {
        "texts": len(data),
        "words": round(words, 1),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "bytes_before": before,
        "peak_bytes": resident("VmHWM"),
        "pairs": len(found),
        "exact_rows": int((groups != np.arange(len(data))).sum()),
        "planted": {kind: planted_counts[kind] for kind in kinds},
        "found": {kind: counts[kind] for kind in kinds},
    }


def leaks(name: str, splits: real_texts.Splits, seed: int) -> record.Row:
    """Plant 500 rows of train in test, a fifth of them exact, and look for them.

    Rows of train and test that are duplicates of others before anything is planted are left out, so what is found beyond
    the planted rows is false.
    """
    rng = random.Random(seed)
    texts = [text for text in chain(*splits.values()) if len(word_form(text)) >= 40]
    keep = np.ones(len(texts), bool)
    keep[[pair.second for pair in near_duplicates(texts)]] = False
    texts = [text for text, kept in zip(texts, keep, strict=True) if kept]
    rng.shuffle(texts)
    train, test, planted_rows = planted.splits(texts, len(texts) // 3, 500, rng)
    groups = exact_groups([*train, *test])[len(train) :]
    exact = set(np.flatnonzero(groups < len(train)).tolist())
    rows = {pair.second for pair in near_duplicates(train, test)}
    kinds = Counter(planted_rows.values())
    hits = Counter(kind for row, kind in planted_rows.items() if row in (exact if kind == "exact" else rows))
    return {
        "set": name,
        "seed": seed,
        "train": len(train),
        "test": len(test),
        "planted": dict(kinds),
        "found": {kind: hits[kind] for kind in kinds},
        "false": len(rows - planted_rows.keys()),
        "rows": len(rows),
    }


def sets(names: Collection[str] | None) -> Iterator[record.Row]:
    """Rows that are duplicates within train, and rows of a split that have one in another."""
    for name, splits in real_texts.read(names):
        row: record.Row = {"set": name, "rows": {split: len(texts) for split, texts in splits.items()}}
        start = time.perf_counter()
        for split, texts in splits.items():
            groups = exact_groups(texts)
            exact = set(np.flatnonzero(groups != np.arange(len(texts))).tolist())
            near = {pair.second for pair in near_duplicates(texts)} - exact
            row[split] = [len(exact), len(near)]
        for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
            if first in splits and second in splits:
                row[f"{second} in {first}"] = list(_between(splits[first], splits[second]))
        row["seconds"] = round(time.perf_counter() - start, 1)
        yield row


def _between(texts: Collection[str], others: Collection[str]) -> tuple[int, int]:
    groups = exact_groups(chain(texts, others))[len(texts) :]
    exact = set(np.flatnonzero(groups < len(texts)).tolist())
    return len(exact), len({pair.second for pair in near_duplicates(texts, others)} - exact)


def _grams(text: str, size: int) -> set[str]:
    return {text[i : i + size] for i in range(max(1, len(text) - size + 1))}


SHINGLES: dict[str, Callable[[str], set[str]]] = {
    "3 characters of words (jaxft)": lambda text: _grams(word_form(text), 3),
    "2 characters of words": lambda text: _grams(word_form(text), 2),
    "4 characters of words": lambda text: _grams(word_form(text), 4),
    "5 characters of words": lambda text: _grams(word_form(text), 5),
    "3 characters within words": lambda text: set().union(*(_grams(f" {word} ", 3) for word in word_form(text).split())),
    "3 characters, no spaces": lambda text: _grams("".join(word_form(text).split()), 3),
    "3 characters of the text": lambda text: _grams(exact_form(text), 3),
    "words": lambda text: set(word_form(text).split()),
    "2 words": lambda text: {" ".join(x) for x in zip(*(word_form(text).split()[i:] for i in (0, 1)), strict=False)},
}


def shingles(name: str, texts: list[str]) -> Iterator[record.Row]:
    """The share of edits that reach a similarity, and pairs of different texts that reach it (all are compared)."""
    from scipy.sparse import csr_array

    rng = random.Random(0)
    texts = list({word_form(text): text for text in texts}.values())[:3000]
    edited = [(text, kind, edit(text, rng)) for text in texts[:400] for kind, edit in planted.KINDS.items()]
    for shingle, function in SHINGLES.items():
        by_kind: dict[str, list[float]] = {}
        for text, kind, new in edited:
            left, right = function(text), function(new)
            by_kind.setdefault(kind, []).append(len(left & right) / max(1, len(left | right)))
        numbers: dict[str, int] = {}
        rows = [[numbers.setdefault(x, len(numbers)) for x in function(text)] for text in texts]
        sizes = np.array([len(row) for row in rows])
        table = csr_array((np.ones(sizes.sum()), np.concatenate(rows), np.append(0, np.cumsum(sizes))))
        shared = (table @ table.T).tocoo()
        similarity = shared.data / (sizes[shared.row] + sizes[shared.col] - shared.data)
        different = shared.row < shared.col
        yield {
            "set": name,
            "shingle": shingle,
            "texts": len(texts),
            "found": {
                kind: [round(float(np.mean(np.array(x) >= s)), 3) for s in SIMILARITIES] for kind, x in by_kind.items()
            },
            "pairs": [int((similarity[different] >= s).sum()) for s in SIMILARITIES],
        }


def page() -> None:
    """Write the tables of docs/cleaning.md."""
    rows = record.rows(record.RESULTS / "duplicates.json")
    of = {what: [row for row in rows if row["what"] == what] for what in ("large", "leaks", "sets", "shingles")}

    def cell(row: record.Row, key: str) -> str:
        return "{:,} + {:,}".format(*row[key]) if key in row else ""

    names = [*SPLITS, "validation in train", "test in train", "test in validation"]
    at = SIMILARITIES.index(SIMILARITY)
    kinds = list(planted.KINDS)
    pages.write(
        PAGE,
        {
            "large": pages.table(
                [
                    "texts",
                    "words",
                    "seconds",
                    "CPU seconds",
                    "peak GiB",
                    "GiB before the search",
                    "pairs",
                    *("exact", *kinds),
                ],
                (
                    [
                        *(f"{x['texts']:,}", x["words"], x["seconds"], x["cpu_seconds"]),
                        *(f"{x[key] / 2**30:.2f}" for key in ("peak_bytes", "bytes_before")),
                        f"{x['pairs']:,}",
                        *(f"{x['found'][kind] / x['planted'][kind]:.2%}" for kind in ("exact", *kinds)),
                    ]
                    for x in sorted(of["large"], key=lambda x: x["texts"])
                ),
            ),
            "leaks": pages.table(
                ["set", "train", "test", "exact", "near", *kinds, "false"],
                (
                    [
                        *(x["set"], f"{x['train']:,}", f"{x['test']:,}"),
                        f"{x['found']['exact']} of {x['planted']['exact']}",
                        f"{_near(x, 'found') / _near(x, 'planted'):.1%}",
                        *(f"{x['found'][kind]} of {x['planted'][kind]}" for kind in kinds),
                        f"{x['false']} of {x['rows']}",
                    ]
                    for x in of["leaks"]
                ),
            ),
            "sets": pages.table(
                ["set", "rows", *names],
                (
                    [
                        x["set"],
                        " / ".join(f"{x['rows'].get(name, 0):,}" for name in SPLITS),
                        *(cell(x, name) for name in names),
                    ]
                    for x in sorted(of["sets"], key=lambda x: list(real_texts.SETS).index(x["set"]))
                ),
            ),
            "shingles": pages.table(
                ["set", "shingles", *kinds, "pairs of different texts"],
                (
                    [x["set"], x["shingle"], *(f"{x['found'][kind][at]:.0%}" for kind in kinds), x["pairs"][at]]
                    for x in of["shingles"]
                ),
            ),
        },
    )


def _near(row: record.Row, key: str) -> int:
    return sum(row[key].values()) - row[key]["exact"]


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__, "duplicates.json")
    parser.add_argument("what", choices=["large", "leaks", "shingles", "sets", "page"])
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--sets", nargs="+", choices=list(real_texts.SETS), help="of `sets`; by default all")
    parser.add_argument("--child", action="store_true", help="measure in this process, and print the result")
    args = parser.parse_args(argv)

    def add(row: record.Row, *names: str) -> None:
        print(json.dumps(row), flush=True)
        record.add(args.output, {"what": args.what} | row, "what", *names)

    if args.what == "large" and args.child:
        print(json.dumps(large(args.texts)))
    elif args.what == "large":
        command = [sys.executable, "-m", "benchmarks.duplicates", "large", "--child", f"--texts={args.texts}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        add(json.loads(done.stdout.splitlines()[-1]), "texts", "processor")
    elif args.what == "leaks":
        for name, splits in real_texts.read(LEAKED):
            add(leaks(name, splits, seed=0), "set", "seed")
    elif args.what == "shingles":
        for name, splits in real_texts.read(("banking77", "chnsenticorp")):
            for row in shingles(name, splits["train"]):
                add(row, "set", "shingle")
    elif args.what == "sets":
        for row in sets(args.sets):
            add(row, "set")
    else:
        page()


if __name__ == "__main__":
    main(sys.argv[1:])
