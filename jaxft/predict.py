"""jaxft predict RUN_OR_MODEL_DIR --input FILE --output FILE: csv or jsonl in; jsonl out, one row a row.

Without a task's head, or with --features, the rows are embeddings; --output FILE.npy writes them as one array."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

from jaxft import cli, rundir, runtime
from jaxft.config import Config
from jaxft.errors import UserError
from jaxft.output import check_output, reading, writing

PROG = "jaxft predict"
RUN_OPTIONS = "Every option of the run may be given anew, such as --data.text COLUMN (jaxft train --help data)."
FEATURES = ("cls", "mean", "pooled")
ARRAY = ".npy"


def main(argv: list[str]) -> None:
    """Write a prediction, or an embedding, for every input row, in its order."""
    parser = cli.Parser(prog=PROG, description=__doc__, epilog=RUN_OPTIONS)
    parser.add_argument("model", metavar="RUN_OR_MODEL_DIR")
    inputs, outputs = "csv, tsv, json, jsonl, parquet or txt", "jsonl; json: all at once; npy: embeddings"
    parser.add_argument("--input", required=True, metavar="FILE", help=f"{inputs}; - is standard input, jsonl")
    parser.add_argument("--output", required=True, metavar="FILE", help=f"{outputs}; - is standard output, jsonl")
    parser.add_argument(
        "--features",
        choices=FEATURES,
        help="embeddings: of the first token, the mean over tokens, or the pooler's (default without a head: mean)",
    )
    args, overrides = parser.parse_beside_config(argv)
    check_output(args.output)
    config = rundir.config_of(args.model, overrides, prog=PROG)
    named = {option.partition("=")[0].removeprefix("--data.") for option in overrides}
    limited, given = "max_eval_examples" in named, "empty_texts" in named
    most = config.data.max_eval_examples if limited else None  # a run's own is of its evaluations
    # A run's own choice is of its training rows: a prediction stands beside every row of the input unless it is asked for.
    empty = config.data.empty_texts if given else "null"
    kept = "null" if empty == "drop" else empty  # rows that are left out are counted first
    with reading(args.input) as path:
        data = replace(config.data, dataset=None, test=path, empty_texts=kept, max_eval_examples=most)
        found, document, features = _answers(args, replace(config, data=data))
    import numpy as np

    from jaxft.data.odd import is_null

    odd = [bool(row[0] != row[0]) if features else is_null(row) for row in found]
    if empty == "drop":
        kept_rows = [row for row, is_odd in zip(found, odd, strict=True) if not is_odd]
        found = np.array(kept_rows) if features else kept_rows
    with writing(args.output) as file:
        if args.output.endswith(ARRAY):
            np.lib.format.write_array(_Stream(file), np.asarray(found))
        elif args.output.endswith(".json") and document:
            file.write(json.dumps(document(found), ensure_ascii=False, indent=1).encode())
        else:
            for row in found:
                content = {"embedding": _numbers(row)} if features else row
                file.write(f"{json.dumps(content, ensure_ascii=False)}\n".encode())
    lost = ("left out" if empty == "drop" else "null") + ": no usable text (data.empty_texts)"
    more = f"; {sum(odd)} {'row is' if sum(odd) == 1 else 'rows are'} {lost}" if any(odd) else ""
    print(f"wrote {len(found)} {'embeddings' if features else 'predictions'} to {args.output}{more}", file=sys.stderr)


def _answers(args: argparse.Namespace, config: Config) -> tuple[Any, Callable[[Any], Any] | None, str | None]:
    """(predictions or embeddings, how the task puts them into a json file, of what embeddings are)."""
    runtime.start(precision=config.runtime.precision, compile_cache=config.runtime.compile_cache, distributed="off")
    from jaxft import inference

    headless = inference.head_of(args.model, config)[0] in (None, "feature-extraction")
    features = args.features or ("mean" if headless else None)
    if args.output.endswith(ARRAY) and features is None:
        raise UserError(f"--output {args.output}: an array holds embeddings only; give --features {', '.join(FEATURES)}")
    if features:
        return _embeddings(args.model, config, features), None, features
    return *_predictions(args.model, config), None


def _predictions(path: str, config: Config) -> tuple[list[dict[str, Any]], Callable[[list[dict[str, Any]]], Any]]:
    """Predictions, and how the task puts them into a json file."""
    from jaxft import inference

    config = inference.with_task(path, config)
    rows = inference.read(config, "test", labelled=False)
    opened = inference.open_model(path, config)
    return list(inference.predict(opened, rows, "test")), opened.task.document


def _embeddings(path: str, config: Config, source: str) -> Any:
    from jaxft.features import embeddings
    from jaxft.tasks import texts

    rows = texts.read(config.data, "test")
    if most := config.data.max_eval_examples:
        rows = rows.select(range(min(most, len(rows))))
    return embeddings(path, config, rows, str(config.data.test), source)


class _Stream:
    """A file that numpy writes to as to any stream: pipes have no position, which it would ask of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write


def _numbers(vector: Any) -> list[float] | None:
    """An embedding with as many digits as float32 holds; None for a row without a text."""
    return None if vector[0] != vector[0] else [float(f"{x:.9g}") for x in vector]


if __name__ == "__main__":
    cli.run_main(main)
