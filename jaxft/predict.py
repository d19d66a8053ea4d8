"""jaxft predict RUN_OR_MODEL_DIR --input FILE --output FILE: a row of predictions for every row of the input.

Without a task's head, or with --features, the rows are embeddings; --output FILE.npy writes them as one array."""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from jaxft.config import Config, cli
from jaxft.core import backend
from jaxft.core.errors import UserError
from jaxft.core.output import check_output, reading, writing
from jaxft.run import rundir

PROG = "jaxft predict"
RUN_OPTIONS = "Options of the run may be given anew, such as --data.text COLUMN; jaxft help evaluate all lists what applies."
FEATURES = ("cls", "mean", "pooled")
ARRAY, DOCUMENT = ".npy", ".json"
OTHERS = (".csv", ".tsv", ".txt", ".parquet", ".arrow", ".xlsx")  # tables, which predictions are not written as


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
    check_output(args.output, source=args.input)
    if args.output.endswith(OTHERS) and not Path(args.output).exists():
        raise UserError(f"--output {args.output}: predictions are written as .jsonl or .json, embeddings also as .npy")
    config = rundir.config_of(args.model, overrides, prog=PROG)
    named = {option.partition("=")[0].removeprefix("--data.") for option in overrides}
    limited, given = "max_eval_examples" in named, "empty_texts" in named
    most = config.data.max_eval_examples if limited else None  # a run's own is of its evaluations
    # A run's own choice is of its training rows: a prediction stands beside every row of the input unless it is asked for.
    empty = config.data.empty_texts if given else "null"
    kept = "null" if empty == "drop" else empty  # rows that are left out are counted first
    with reading(args.input) as path:
        data = replace(config.data, dataset=None, test=path, empty_texts=kept, max_eval_examples=most)
        answers = _answers(args, replace(config, data=data), drop=empty == "drop")
        written, odd = _write(answers, args.output, drop=empty == "drop")
    lost = ("left out" if empty == "drop" else "null") + ": no usable text (data.empty_texts)"
    more = f"; {odd} {'row is' if odd == 1 else 'rows are'} {lost}" if odd else ""
    print(f"wrote {written} {answers.kind} to {args.output}{more}", file=sys.stderr)


@dataclass(frozen=True)
class _Answers:
    """What is computed, as it is asked for.

    Attributes:
      kind: predictions or embeddings.
      rows: a mapping, or a vector [D], for every row of the input.
      is_null: whether it is that of a row without a text.
      write: puts those that are kept into the output.
    """

    kind: str
    rows: Iterator[Any]
    is_null: Callable[[Any], bool]
    write: Callable[[BinaryIO, Iterator[Any]], None]


def _answers(args: argparse.Namespace, config: Config, *, drop: bool) -> _Answers:
    """Predictions, or embeddings where there is no head or they are wanted; `drop` says that odd rows are not kept."""
    backend.start(precision=config.runtime.precision, compile_cache=config.runtime.compile_cache, distributed="off")
    from jaxft.data.reading.empty_texts import empty_rows, is_null
    from jaxft.evaluation import inference
    from jaxft.tasks import task_class

    headless = inference.head_of(args.model, config)[0] in (None, "feature-extraction")
    features = args.features or ("mean" if headless else None)
    if args.output.endswith(ARRAY) and features is None:
        raise UserError(f"--output {args.output}: an array holds embeddings only; give --features {', '.join(FEATURES)}")
    if features is None:
        config = inference.with_task(args.model, config)
        rows = inference.read(config, "test", labelled=False)
        if args.output.endswith(DOCUMENT):
            task_class(config).check_document(rows)
        opened = inference.open_model(args.model, config)
        write = partial(_write_document, document=opened.task.document) if args.output.endswith(DOCUMENT) else _write_lines
        _, predictions = _begun(inference.predict(opened, rows, "test"))
        return _Answers("predictions", predictions, is_null, write)
    from jaxft.evaluation.embeddings import embeddings
    from jaxft.tasks import texts

    rows = texts.read(config.data, "test")
    if most := config.data.max_eval_examples:
        rows = rows.select(range(min(most, len(rows))))
    first, vectors = _begun(embeddings(args.model, config, rows, str(config.data.test), features))
    kept = len(rows) - (int(empty_rows(rows).sum()) if drop else 0)
    write = partial(_write_array, count=kept, like=first) if args.output.endswith(ARRAY) else _write_embeddings
    return _Answers("embeddings", vectors, lambda vector: bool(vector[0] != vector[0]), write)


def _begun(rows: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
    """(the first row, all of them): most errors come before the output is opened."""
    first = next(rows)
    return first, itertools.chain([first], rows)


def _write(answers: _Answers, output: str, *, drop: bool) -> tuple[int, int]:
    """(rows written, rows without a text); these are left out on request. What is computed is written at once."""
    written = odd = 0

    def kept() -> Iterator[Any]:
        nonlocal written, odd
        for row in answers.rows:
            null = answers.is_null(row)
            odd += null
            if not (null and drop):
                written += 1
                yield row

    with writing(output) as file:
        answers.write(file, kept())
    return written, odd


def _write_lines(file: BinaryIO, rows: Iterator[Any]) -> None:
    file.writelines(map(_line, rows))


def _write_document(file: BinaryIO, rows: Iterator[Any], document: Callable[[list[Any]], Any]) -> None:
    """All predictions as one json value, as the task has it."""
    file.write(json.dumps(document(list(rows)), ensure_ascii=False, indent=1).encode())


def _write_embeddings(file: BinaryIO, vectors: Iterator[Any]) -> None:
    _write_lines(file, ({"embedding": _numbers(vector)} for vector in vectors))


def _write_array(file: BinaryIO, vectors: Iterator[Any], count: int, like: Any) -> None:
    """An npy file of so many vectors of one kind."""
    import numpy as np

    about = {"descr": np.lib.format.dtype_to_descr(like.dtype), "fortran_order": False, "shape": (count, *like.shape)}
    np.lib.format.write_array_header_1_0(file, about)
    file.writelines(vector.tobytes() for vector in vectors)


def _line(content: Any) -> bytes:
    return f"{json.dumps(content, ensure_ascii=False)}\n".encode()


def _numbers(vector: Any) -> list[float] | None:
    """An embedding with as many digits as float32 holds; None for a row without a text."""
    return None if vector[0] != vector[0] else [float(f"{x:.9g}") for x in vector]


if __name__ == "__main__":
    cli.run_main(main)
