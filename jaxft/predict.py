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
    limited = any(option.partition("=")[0] == "--data.max_eval_examples" for option in overrides)
    most = config.data.max_eval_examples if limited else None  # a run's own is of its evaluations
    data = replace(config.data, dataset=None, test=args.input, empty_texts="error", max_eval_examples=most)
    config = replace(config, data=data)
    runtime.start(precision=config.runtime.precision, compile_cache=config.runtime.compile_cache, distributed="off")
    from jaxft import inference
    from jaxft.models.files import write_directory

    features = args.features or (
        "mean" if inference.head_of(args.model, config)[0] in (None, "feature-extraction") else None
    )
    if output.suffix == ".npy" and features is None:
        raise UserError(f"--output {output}: an array holds embeddings only; give --features {', '.join(FEATURES)}")
    found: Any
    if features:
        found, document = _embeddings(args.model, config, features), None
    else:
        found, document = _predictions(args.model, config)

    def write(path: Path) -> None:
        if output.suffix == ".npy":
            import numpy as np

            with open(path, "wb") as file:
                np.save(file, found)
            return
        with open(path, "w", encoding="utf-8") as file:
            if output.suffix == ".json" and document:
                json.dump(document(found), file, ensure_ascii=False, indent=1)
                return
            for row in found:
                content = {"embedding": [float(f"{x:.9g}") for x in row]} if features else row
                file.write(json.dumps(content, ensure_ascii=False) + "\n")

    if output.exists() and not output.is_file():  # /dev/stdout or a pipe: written to, not replaced
        try:
            write(output)
        except OSError as error:
            raise UserError(f"{output}: cannot be written: {error.strerror}") from error
    else:
        write_directory(output.parent, {output.name: write})
    print(f"wrote {len(found)} {'embeddings' if features else 'predictions'} to {output}", file=sys.stderr)


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
