"""Reads the tables of data sets, and writes parts of them."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path


def read_table(path: str) -> list[dict[str, str]]:
    """The rows of a csv or tsv file with a header."""
    tsv = path.endswith(".tsv")
    quoting = csv.QUOTE_NONE if tsv else csv.QUOTE_MINIMAL
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if tsv else ",", quoting=quoting))


def write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path
