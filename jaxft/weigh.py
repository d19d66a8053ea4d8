"""jaxft weigh CONFIG.yaml --target FILE --output FILE: write the training rows with their importance for a target domain.

The importance of a row is how much more probable its text is in the target domain; data.weight of a run names the column."""

import sys
from typing import Any

from jaxft.config import Config, cli, help
from jaxft.config.used_by import UsedBy
from jaxft.core import backend
from jaxft.core.errors import UserError

COMMAND = help.Command(
    "jaxft weigh",
    "CONFIG.yaml --target FILE --output FILE [--features FEATURES] [--clip X] [--column NAME]",
    own={
        "--target FILE": "Texts of the target domain, in the columns of the config; labels are not read.",
        "--output FILE": "File to write: jsonl or parquet; - writes jsonl to standard output.",
        "--features FEATURES": "What the classifier reads: words (default), or mean or cls, embeddings of model.path.",
        "--clip X": "Largest ratio of the probabilities of both domains, 10 by default; then weights have mean 1.",
        "--column NAME": "Name of the column of weights, weight by default.",
    },
    common=("data.train", "task.name", "data.text", "data.label", "model.path", "seed"),
    uses=UsedBy.PLAN,
    note="The other options of jaxft train are accepted and ignored.",
)
FEATURES = ("words", "mean", "cls")


def main(argv: list[str]) -> None:
    """Write the rows, and print how far apart the domains are."""
    cli.show_help(argv, COMMAND)
    parser = cli.Parser(prog=COMMAND.name, add_help=False)
    parser.add_argument("--target", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--features", choices=FEATURES, default="words")
    parser.add_argument("--clip", type=float, default=10.0)
    parser.add_argument("--column", default="weight")
    options, rest = parser.parse_beside_config(argv)
    from jaxft.data.formats.write_tables import check_tables, refuse_inputs, write_tables

    check_tables(options.output)
    if not 1 <= options.clip < float("inf"):
        raise UserError(f"--clip is {options.clip:g}: must be a finite number of 1 or more")
    config = cli.load(rest, COMMAND)
    if config.data.train is None and not config.tasks:
        raise UserError("data.train is not set: name the data to weigh")
    refuse_inputs(config.data, [options.output])
    backend.start(distributed="off")
    from jaxft.run.weighing import weigh

    features = None if options.features == "words" else _embedded(config, options.features)
    found = weigh(config, options.target, clip=options.clip, features=features)
    written = write_tables(options.output, found.tables(options.column))
    print(found.line(), file=sys.stderr)
    where = "standard output" if options.output == "-" else options.output
    print(f"wrote {written:,} examples to {where}; data.weight {options.column} uses them", file=sys.stderr)


def _embedded(config: Config, source: str) -> Any:
    """A function from texts to embeddings of `model.path`."""
    from dataclasses import replace

    import datasets
    import numpy as np

    from jaxft.evaluation.inference import embeddings

    if config.model.path is None:
        raise UserError(f"--features {source}: embeddings are of model.path, which is not set")
    path, own = config.model.path, replace(config, data=replace(config.data, text="text", text_pair=None))

    def features(texts: Any) -> Any:
        rows = datasets.Dataset.from_dict({"text": list(texts)})
        return np.stack([*embeddings(path, own, rows, "texts", source)])

    return features


if __name__ == "__main__":
    cli.run_main(main)
