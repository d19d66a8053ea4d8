"""The texts of the data sets of ../shared/data by split, as a model reads them: pairs of texts are joined by a tab."""

import csv
import json
import re
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.tables import Row
from tests.support import SHARED

DATA = SHARED / "data"
FIXTURES = "hf_fixtures"  # the samples of Hugging Face's tests
Splits = dict[str, list[str]]  # the texts of train, validation and test; sets without one lack it
SPLITS = ("train", "validation", "test")


def read(names: Collection[str] | None = None) -> Iterator[tuple[str, Splits]]:
    """Name and splits of the named sets, or of all."""
    for name, splits in SETS.items():
        if names is None or name in names:
            yield name, splits()


def _text(path: str) -> str:
    return (DATA / path).read_text(encoding="utf-8-sig")


def _column(*names: str) -> Callable[[str], Iterator[str]]:
    """Reads columns of a csv or tsv file with a header."""

    def read(path: str) -> Iterator[str]:
        if path.endswith(".csv"):
            for row in csv.DictReader(_text(path).splitlines(keepends=True)):
                yield "\t".join(row[name] for name in names)
            return
        header, *lines = _tsv(path)
        places = [header.index(name) for name in names]
        for line in lines:
            yield "\t".join(line[place].strip() for place in places)

    return read


def _tsv(path: str) -> list[list[str]]:
    return [line.rstrip("\r").split("\t") for line in _text(path).split("\n") if line.strip()]


def _cola(path: str) -> Iterator[str]:
    """Only the test split has a header."""
    return (line[-1] for line in _tsv(path) if line != ["index", "sentence"])


def _longest(path: str) -> Iterator[str]:
    """The splits differ in their columns, and in whether they have a header."""
    return (max(line, key=len) for line in _tsv(path) if "text_a" not in line)


def _slots(path: str) -> Iterator[str]:
    for line in _text(path).splitlines():
        yield " ".join(word.rpartition(":")[0] for word in line.partition(" <=> ")[0].split())


def snips_intents(split: str) -> list[Row]:
    """The commands of SNIPS with their intents; a line is "word:tag word:tag <=> intent"."""
    path = f"snips/{split}"
    intents = (line.rpartition(" <=> ")[2] for line in _text(path).splitlines())
    return [{"text": text, "intent": intent} for text, intent in zip(_slots(path), intents, strict=True)]


def _words(path: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", _text(path).replace("\r\n", "\n")):
        if words := [line.split("\t")[0].split(" ")[0] for line in block.split("\n") if line.strip()]:
            yield " ".join(words)


def _lines(path: str) -> Iterator[str]:
    return (line.strip() for line in _text(path).split("\n") if line.strip() and not line.strip().startswith("="))


def _contexts(path: str) -> Iterator[str]:
    for article in json.loads(_text(path))["data"]:
        yield from (paragraph["context"] for paragraph in article["paragraphs"])


def _json_lines(text: Callable[[Any], str]) -> Callable[[str], Iterator[str]]:
    """Reads a text of each row of a file of JSON lines."""
    return lambda path: (text(json.loads(line)) for line in _text(path).splitlines() if line.strip())


def _english(row: Any) -> str:
    return row["translation"]["en"]


def _questions(path: str) -> Iterator[str]:
    return (f"{row['question']}\t{row['context']}" for row in json.loads(_text(path))["data"])


def _imdb(part: str) -> Iterator[str]:
    with tarfile.open(DATA / f"imdb/aclImdb_{part}.tar.xz") as archive:
        for member in archive:
            if member.isfile() and Path(member.name).suffix == ".txt" and "/urls" not in member.name:
                file = archive.extractfile(member)
                assert file is not None
                yield file.read().decode("utf-8")


def _clinc() -> Splits:
    found = json.loads(_text("clinc150/data_full.json"))
    parts = {"train": ("train", "oos_train"), "validation": ("val", "oos_val"), "test": ("test", "oos_test")}
    return {split: [text for name in names for text, _ in found[name]] for split, names in parts.items()}


def _split(read: Callable[[str], Iterable[str]], **files: str) -> Callable[[], Splits]:
    return lambda: {split: list(read(path)) for split, path in files.items()}


def _three(read: Callable[[str], Iterable[str]], pattern: str, validation: str = "dev") -> Callable[[], Splits]:
    return _split(read, **{x: pattern.format(y) for x, y in zip(SPLITS, ("train", validation, "test"), strict=True)})


def _two(read: Callable[[str], Iterable[str]], pattern: str) -> Callable[[], Splits]:
    return _split(read, train=f"{FIXTURES}/{pattern.format('train')}", validation=f"{FIXTURES}/{pattern.format('dev')}")


SETS: dict[str, Callable[[], Splits]] = {
    "banking77": _split(_column("text"), train="banking77/train.csv", test="banking77/test.csv"),
    "clinc150": _clinc,
    "atis": _three(_slots, "atis/{}", "valid"),
    "snips": _three(_slots, "snips/{}", "valid"),
    "CoLA": _three(_cola, "glue/CoLA/{}.tsv"),
    "SST-2": _three(_column("sentence"), "glue/SST-2/{}.tsv"),
    "MRPC": _three(_column("#1 String", "#2 String"), "glue/MRPC/{}.tsv"),
    "RTE": _three(_column("sentence1", "sentence2"), "glue/RTE/{}.tsv"),
    "STS-B": _three(_column("sentence1", "sentence2"), "glue/STS-B/{}.tsv"),
    "chnsenticorp": _three(_longest, "chnsenticorp/{}.tsv"),
    "subjqa, electronics": _three(_column("question", "review"), "subjqa/electronics/{}.csv"),
    "subjqa, restaurants": _three(_column("question", "review"), "subjqa/restaurants/{}.csv"),
    "ncbi_disease": _three(_words, "ncbi_disease/{}.txt"),
    "wnut17": _split(
        _words,
        train="wnut17/wnut17train.conll",
        validation="wnut17/emerging.dev.conll",
        test="wnut17/emerging.test.annotated",
    ),
    "wikitext-2, lines": _split(_lines, validation="wikitext-2/valid.txt", test="wikitext-2/test.txt"),
    **{f"xquad {x}, contexts": _split(_contexts, test=f"xquad/xquad.{x}.json") for x in ("en", "de", "zh")},
    "imdb, labelled": _split(_imdb, train="train", test="test"),
    "imdb, unlabelled": _split(_imdb, train="train_unsup", test="test"),
    "fixtures: MRPC": _two(_column("#1 String", "#2 String"), "MRPC/{}.tsv"),
    "fixtures: STS-B": _two(_column("sentence1", "sentence2"), "STS-B/{}.tsv"),
    "fixtures: GermEval": _two(_words, "GermEval/{}.txt"),
    "fixtures: CoNLL": _split(_json_lines(lambda row: " ".join(row["words"])), train=f"{FIXTURES}/conll/sample.json"),
    "fixtures: SWAG": _split(
        _json_lines(lambda row: f"{row['sent1']}\t{row['sent2']}"), train=f"{FIXTURES}/swag/sample.json"
    ),
    "fixtures: SQuAD": _split(_questions, train=f"{FIXTURES}/SQUAD/sample.json"),
    "fixtures: WMT16": _split(_json_lines(_english), train=f"{FIXTURES}/wmt16/sample.json"),
    "fixtures: WMT en-ro": _three(_json_lines(_english), f"{FIXTURES}/wmt_en_ro/{{}}.json", "val"),
    "fixtures: XSum": _split(_json_lines(lambda row: row["document"]), train=f"{FIXTURES}/xsum/sample.json"),
    "fixtures: Wikipedia, lines": _split(_lines, train=f"{FIXTURES}/wiki_text/wiki_00"),
    "fixtures: sample text, lines": _split(_lines, train=f"{FIXTURES}/sample_text.txt"),
}
