"""jaxft clean CONFIG.yaml --output FILE [--split SPLIT] [--report FILE.json]: write cleaned data, and report what was found.

It prints duplicates, leaks between splits, conflicting labels, odd texts and the drift of labels."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxft.config import Config, cli, help
from jaxft.config.used_by import UsedBy
from jaxft.core import backend
from jaxft.core.errors import UserError
from jaxft.core.output import check_output, writing

COMMAND = help.Command(
    "jaxft clean",
    "CONFIG.yaml --output FILE [--split SPLIT] [--report FILE.json] [--exact]",
    own={
        "--output FILE": "File to write: jsonl or parquet; - writes jsonl to standard output, none writes nothing.",
        "--split SPLIT": "Split to write: train (default), validation or test; rows are left out of train only.",
        "--report FILE.json": "Write the report with every row that was found.",
        "--exact": "Search for exact duplicates and leaks only, which is quicker.",
    },
    common=("data.train", "data.validation", "data.test", "task.name", "data.text", "data.label", "model.path"),
    uses=UsedBy.PLAN,
    note="--help data.clean lists the options of cleaning. The other options of jaxft train are accepted and ignored.",
)
SPLITS = ("train", "validation", "test")
NOTHING = "none"


def main(argv: list[str]) -> None:
    """Write a cleaned split, and print what was found in all splits."""
    cli.show_help(argv, COMMAND)
    parser = cli.Parser(prog=COMMAND.name, add_help=False)
    parser.add_argument("--output", required=True)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--report")
    parser.add_argument("--exact", action="store_true")
    options, rest = parser.parse_beside_config(argv)
    if options.output != NOTHING:
        check_output(options.output)
        if options.output != "-" and not options.output.endswith((".jsonl", ".parquet")):
            raise UserError(f"--output {options.output}: give a file that ends in .jsonl or .parquet, - or {NOTHING}")
    if options.report:
        check_output(options.report, "--report")
    config = cli.load(rest, COMMAND)
    given = [split for split in SPLITS if getattr(config.data, split)]
    if options.split not in given:
        raise UserError(f"data.{options.split} is not set: name the data to clean")
    _refuse_inputs(config, [options.output, options.report])
    backend.start(distributed="off")
    from jaxft.run.cleaning import clean

    found = clean(config, given, near=not options.exact)
    for line in found.lines():
        print(line, file=sys.stderr)
    if options.report:
        with writing(options.report, "--report") as file:
            file.write(json.dumps(found.document(), ensure_ascii=False, indent=1).encode())
    if options.output != NOTHING:
        rows = found.kept if options.split == "train" else found.rows[options.split]
        chunks = found.kind.file_tables(rows, config)
        write = _write_parquet if options.output.endswith(".parquet") else _write_lines
        written = write(options.output, chunks)
        where = "standard output" if options.output == "-" else options.output
        print(f"wrote {written:,} of {len(found.rows[options.split]):,} examples to {where}", file=sys.stderr)


def _refuse_inputs(config: Config, outputs: list[str | None]) -> None:
    """Refuse to overwrite the data."""
    from jaxft.data.reading import files

    if config.data.dataset:
        return
    read = {path.resolve() for split in SPLITS if getattr(config.data, split) for path in files.files_of(config.data, split)}
    for name in filter(None, outputs):
        if Path(name).expanduser().resolve() in read:
            raise UserError(f"{name}: is what is read from; give another name")


def _write_lines(output: str, chunks: Iterator[Any]) -> int:
    """Write Arrow tables as JSON lines; return the number of rows."""
    written = 0
    with writing(output) as file:
        for table in chunks:
            for row in _named(table):
                file.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())
                written += 1
    return written


def _named(table: Any) -> Iterator[Mapping[str, Any]]:
    """The rows of a table, with the names of labels in place of their numbers."""
    import datasets

    features = datasets.Features.from_arrow_schema(table.schema)
    for row in table.to_pylist():
        yield {name: _name(value, features[name]) for name, value in row.items()}


def _name(value: Any, feature: Any) -> Any:
    if isinstance(value, list):
        return [_name(x, getattr(feature, "feature", feature)) for x in value]
    names = getattr(feature, "names", None)
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def _write_parquet(output: str, chunks: Iterator[Any]) -> int:
    """Write Arrow tables as a parquet file; return the number of rows."""
    import pyarrow.parquet as pq

    written = 0
    with writing(output) as file:
        first = next(chunks)
        with pq.ParquetWriter(file, first.schema) as writer:
            for table in (first, *chunks):
                writer.write_table(table)
                written += len(table)
    return written


if __name__ == "__main__":
    cli.run_main(main)
