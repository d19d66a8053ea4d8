"""jaxft clean CONFIG.yaml --output FILE [--split SPLIT] [--report FILE.json]: write cleaned data, and report what was found.

It prints duplicates, leaks between splits, conflicting labels, odd texts and the drift of labels."""

import json
import sys
from pathlib import Path

from jaxft.config import cli, help
from jaxft.config.data import SPLITS
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
    from jaxft.data.formats.write_tables import check_tables, refuse_inputs, write_tables

    if options.output != NOTHING:
        check_tables(options.output, f", - or {NOTHING}")
    if options.report:
        if options.report == "-":
            raise UserError("--report -: give the name of a file")
        check_output(options.report, "--report")
        if Path(options.report).resolve() == Path(options.output).resolve():
            raise UserError(f"--output and --report are both {options.output}: give different names")
    config = cli.load(rest, COMMAND)
    given = [split for split in SPLITS if getattr(config.data, split)]
    if options.split not in given:
        raise UserError(f"data.{options.split} is not set: name the data to clean")
    refuse_inputs(config.data, [options.output, options.report])
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
        written = write_tables(options.output, found.tables(rows, config, options.split))
        where = "standard output" if options.output == "-" else options.output
        print(f"wrote {written:,} of {len(found.rows[options.split]):,} examples to {where}", file=sys.stderr)


if __name__ == "__main__":
    cli.run_main(main)
