"""jaxft augment CONFIG.yaml --output FILE [--copies N]: write the training rows and N augmented copies of each.

Training with `augment.steps` needs no such file: it makes new copies in every epoch. A file is for steps that need a forward
pass of a model (source masked_lm), and for other programs."""

import sys
from functools import partial

from jaxft.config import cli, help
from jaxft.config.used_by import UsedBy
from jaxft.core import backend
from jaxft.core.errors import UserError

COMMAND = help.Command(
    "jaxft augment",
    "CONFIG.yaml --output FILE [--copies N]",
    own={
        "--output FILE": "File to write: jsonl or parquet; - writes jsonl to standard output.",
        "--copies N": "Copies of each row, 1 by default; a copy that no step changes is left out.",
    },
    common=("data.train", "task.name", "data.text", "data.label", "model.path", "augment.steps", "augment.apply", "seed"),
    uses=UsedBy.PLAN,
    note="--help augment describes the steps; augment.share is for training. Other options are accepted and ignored.",
)


def main(argv: list[str]) -> None:
    """Write the rows and their copies; copy n is edited as in epoch n, counted from 0."""
    cli.show_help(argv, COMMAND)
    parser = cli.Parser(prog=COMMAND.name, add_help=False)
    parser.add_argument("--output", required=True)
    parser.add_argument("--copies", type=int, default=1)
    options, rest = parser.parse_beside_config(argv)
    from jaxft.data.formats.write_tables import check_tables, refuse_inputs, write_tables

    check_tables(options.output)
    if options.copies < 1:
        raise UserError(f"--copies is {options.copies}: must be at least 1")
    config = cli.load(rest, COMMAND)
    if not config.augment.steps:
        raise UserError("augment.steps is empty: name the steps that make the copies")
    refuse_inputs(config.data, [options.output])
    backend.start(distributed="off")
    from jaxft.evaluation.proposals import proposals
    from jaxft.run.augmented_file import AugmentedFile

    made = AugmentedFile(config, partial(proposals, str(config.model.path)))
    written = write_tables(options.output, made.tables(options.copies))
    for line in [*made.notes, made.line()]:
        print(line, file=sys.stderr)
    where = "standard output" if options.output == "-" else options.output
    print(f"wrote {written:,} examples, {made.rows:,} of them as they were, to {where}", file=sys.stderr)


if __name__ == "__main__":
    cli.run_main(main)
