"""python -m jaxft.predict RUN_OR_MODEL_DIR --input FILE --output FILE: csv or jsonl in; jsonl out, one row a row.

Without a task's head, or with --features, the rows are embeddings; --output FILE.npy writes them as one array."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxft import cli, rundir, runtime
from jaxft.config import Config
from jaxft.errors import UserError

PROG = "python -m jaxft.predict"
RUN_OPTIONS = "Every option of the run may be given anew, such as --data.text COLUMN, --data.max_length, --eval.batch_size."
FEATURES = ("cls", "mean", "pooled")


def main(argv: list[str]) -> None:
    """Write a prediction, or an embedding, for every input row, in its order."""
    parser = cli.Parser(prog=PROG, description=__doc__, epilog=RUN_OPTIONS)
    parser.add_argument("model", metavar="RUN_OR_MODEL_DIR")
    parser.add_argument("--input", required=True, metavar="FILE", help="csv, tsv, json, jsonl, parquet or txt")
    parser.add_argument("--output", required=True, metavar="FILE", help="jsonl; json: all at once; npy: embeddings")
    parser.add_argument(
        "--features",
        choices=FEATURES,
        help="embeddings: of the first token, the mean over tokens, or the pooler's (default without a head: mean)",
    )
    args, overrides = parser.parse_beside_config(argv)
    output = Path(args.output)
    _check_output(output)
    config = rundir.config_of(args.model, overrides, prog=PROG)
    # A run's own choice is of its training rows: a prediction stands beside every row of the input unless it is asked for.
    given = any(option.partition("=")[0] == "--data.empty_texts" for option in overrides)
    empty = config.data.empty_texts if given else "null"
    kept = "null" if empty == "drop" else empty  # rows that are left out are counted first
    config = replace(config, data=replace(config.data, dataset=None, test=args.input, empty_texts=kept))
    runtime.start(precision=config.runtime.precision, compile_cache=config.runtime.compile_cache, distributed="off")
    import numpy as np

    from jaxft import inference
    from jaxft.data.odd import is_null
    from jaxft.models.files import write_directory

    features = args.features or (
        "mean" if inference.head_of(args.model, config)[0] in (None, "feature-extraction") else None
    )
    if output.suffix == ".npy" and features is None:
        raise UserError(f"--output {output}: an array holds embeddings only; give --features {', '.join(FEATURES)}")
    found: Any
    if features:
        found, document = _embeddings(args.model, config, features), None
        odd = [bool(row[0] != row[0]) for row in found]
    else:
        found, document = _predictions(args.model, config)
        odd = [is_null(row) for row in found]
    if empty == "drop":
        found = found[~np.array(odd)] if features else [row for row, is_odd in zip(found, odd, strict=True) if not is_odd]

    def write(path: Path) -> None:
        if output.suffix == ".npy":
            with open(path, "wb") as file:
                np.save(file, found)
            return
        with open(path, "w", encoding="utf-8") as file:
            if output.suffix == ".json" and document:
                json.dump(document(found), file, ensure_ascii=False, indent=1)
                return
            for row in found:
                content = {"embedding": _numbers(row)} if features else row
                file.write(json.dumps(content, ensure_ascii=False) + "\n")

    if output.exists() and not output.is_file():  # /dev/stdout or a pipe: written to, not replaced
        try:
            write(output)
        except OSError as error:
            raise UserError(f"{output}: cannot be written: {error.strerror}") from error
    else:
        write_directory(output.parent, {output.name: write})
    lost = ("left out" if empty == "drop" else "null") + ": no text (data.empty_texts)"
    more = f"; {sum(odd)} {'row is' if sum(odd) == 1 else 'rows are'} {lost}" if any(odd) else ""
    print(f"wrote {len(found)} {'embeddings' if features else 'predictions'} to {output}{more}", file=sys.stderr)


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

    return embeddings(path, config, texts.read(config.data, "test"), str(config.data.test), source)


def _numbers(vector: Any) -> list[float] | None:
    """An embedding with as many digits as float32 holds; None for a row without a text."""
    return None if vector[0] != vector[0] else [float(f"{x:.9g}") for x in vector]


def _check_output(path: Path) -> None:
    """Refuse before the work what cannot be written after it."""
    if path.is_dir():
        raise UserError(f"--output {path}: is a directory; give a file name")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--output {path}: {folder} is not a writable directory")


if __name__ == "__main__":
    cli.run_main(main)
