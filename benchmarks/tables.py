"""Reads the tables of data sets, writes parts of them, and keeps results as JSON lines."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, str]


def read_table(path: str) -> list[Row]:
    """The rows of a csv or tsv file with a header."""
    tsv = path.endswith(".tsv")
    quoting = csv.QUOTE_NONE if tsv else csv.QUOTE_MINIMAL
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if tsv else ",", quoting=quoting))


def write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; none if it does not exist."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def add_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a file of JSON lines, and print it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{json.dumps(row)}\n")
    print(json.dumps(row), flush=True)


def add_missing(path: Path, keys: Iterable[dict[str, Any]], measure: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Measure the rows that a file of JSON lines does not have yet, and append each: the file tells what is done.

    Args:
      path: of the file.
      keys: the fields that tell a row from the others.
      measure: the whole row with these keys.
    """
    known = read_lines(path)
    for key in keys:
        if not any(key.items() <= row.items() for row in known):
            known.append(measure(key))
            add_line(path, known[-1])
