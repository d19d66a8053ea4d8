"""jaxft predict RUN_OR_MODEL_DIR --input FILE --output FILE: write one prediction per row of the input.

With --features, or if the model has no task head, it writes embeddings; --output FILE.npy writes them as one array."""

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
RUN_OPTIONS = "Options of the run can be overridden, such as --data.text COLUMN (jaxft help evaluate all lists them)."
FEATURES = ("cls", "mean", "pooled")
ARRAY, DOCUMENT = ".npy", ".json"
OTHERS = (".csv", ".tsv", ".txt", ".parquet", ".arrow", ".xlsx")  # table formats, which are not written


def main(argv: list[str]) -> None:
    """Write one prediction or embedding per input row, in the order of the input."""
    parser = cli.Parser(prog=PROG, description=__doc__, epilog=RUN_OPTIONS)
    parser.add_argument("model", metavar="RUN_OR_MODEL_DIR")
    inputs, outputs = "csv, tsv, json, jsonl, parquet or txt", "jsonl; json: all at once; npy: embeddings"
    parser.add_argument("--input", required=True, metavar="FILE", help=f"{inputs}; - is standard input, jsonl")
    parser.add_argument("--output", required=True, metavar="FILE", help=f"{outputs}; - is standard output, jsonl")
    parser.add_argument(
        "--features",
        choices=FEATURES,
        help="embeddings: of the first token, the mean over tokens, or of the pooler (default without a head: mean)",
    )
    args, overrides = parser.parse_beside_config(argv)
    check_output(args.output, source=args.input)
    if args.output.endswith(OTHERS) and not Path(args.output).exists():
        raise UserError(f"--output {args.output}: predictions are written as .jsonl or .json, embeddings also as .npy")
    config = rundir.config_of(args.model, overrides, prog=PROG)
    named = {option.partition("=")[0].removeprefix("--data.") for option in overrides}
    limited, given = "max_eval_examples" in named, "empty_texts" in named
    most = config.data.max_eval_examples if limited else None  # the run's limit is for its evaluations
    # The run's choice is for its training rows. Predictions match the input row by row unless the command says otherwise.
    empty = config.data.empty_texts if given else "null"
    kept = "null" if empty == "drop" else empty  # dropped rows are counted when writing
    with reading(args.input) as path:
        data = replace(config.data, dataset=None, test=path, empty_texts=kept, max_eval_examples=most)
        outputs = _compute(args, replace(config, data=data), drop=empty == "drop")
        written, odd = _write(outputs, args.output, drop=empty == "drop")
    lost = ("left out" if empty == "drop" else "null") + ": no usable text (data.empty_texts)"
    more = f"; {odd} {'row is' if odd == 1 else 'rows are'} {lost}" if odd else ""
    print(f"wrote {written} {outputs.kind} to {args.output}{more}", file=sys.stderr)


@dataclass(frozen=True)
class _Outputs:
    """Lazily computed outputs.

    Attributes:
      kind: "predictions" or "embeddings".
      rows: yields one mapping, or one vector [D], per row of the input.
      is_null: whether an output belongs to a row without a text.
      write: writes the outputs that are kept to a file.
    """

    kind: str
    rows: Iterator[Any]
    is_null: Callable[[Any], bool]
    write: Callable[[BinaryIO, Iterator[Any]], None]


def _compute(args: argparse.Namespace, config: Config, *, drop: bool) -> _Outputs:
    """The predictions, or embeddings if requested or if there is no head; `drop` leaves out rows without a text."""
    backend.start(precision=config.runtime.precision, compile_cache=config.runtime.compile_cache, distributed="off")
    from jaxft.data.reading.empty_texts import empty_rows, is_null
    from jaxft.evaluation import inference
    from jaxft.tasks import task_class

    headless = inference.head_of(args.model, config)[0] in (None, "feature-extraction")
    features = args.features or ("mean" if headless else None)
    if args.output.endswith(ARRAY) and features is None:
        raise UserError(f"--output {args.output}: an array holds embeddings only; give --features {', '.join(FEATURES)}")
    if features is None:
        config = inference.config_with_task(args.model, config)
        rows = inference.read_split(config, "test", labelled=False)
        if args.output.endswith(DOCUMENT):
            task_class(config).check_document(rows)
        opened = inference.open_model(args.model, config)
        write = partial(_write_document, document=opened.task.document) if args.output.endswith(DOCUMENT) else _write_lines
        _, predictions = _peek(inference.predict(opened, rows, "test"))
        return _Outputs("predictions", predictions, is_null, write)
    from jaxft.tasks import texts

    rows = texts.read(config.data, "test")
    if most := config.data.max_eval_examples:
        rows = rows.select(range(min(most, len(rows))))
    first, vectors = _peek(inference.embeddings(args.model, config, rows, str(config.data.test), features))
    kept = len(rows) - (int(empty_rows(rows).sum()) if drop else 0)
    write = partial(_write_array, count=kept, like=first) if args.output.endswith(ARRAY) else _write_embeddings
    return _Outputs("embeddings", vectors, lambda vector: bool(vector[0] != vector[0]), write)


def _peek(rows: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
    """(the first row, all rows), so that most errors occur before the output is opened."""
    first = next(rows)
    return first, itertools.chain([first], rows)


def _write(outputs: _Outputs, output: str, *, drop: bool) -> tuple[int, int]:
    """Write outputs as they are computed; return (rows written, rows without a text, which `drop` leaves out)."""
    written = odd = 0

    def kept() -> Iterator[Any]:
        nonlocal written, odd
        for row in outputs.rows:
            null = outputs.is_null(row)
            odd += null
            if not (null and drop):
                written += 1
                yield row

    with writing(output) as file:
        outputs.write(file, kept())
    return written, odd


def _write_lines(file: BinaryIO, rows: Iterator[Any]) -> None:
    file.writelines(map(_line, rows))


def _write_document(file: BinaryIO, rows: Iterator[Any], document: Callable[[list[Any]], Any]) -> None:
    """Write all predictions as one json document in the task's format."""
    file.write(json.dumps(document(list(rows)), ensure_ascii=False, indent=1).encode())


def _write_embeddings(file: BinaryIO, vectors: Iterator[Any]) -> None:
    _write_lines(file, ({"embedding": _numbers(vector)} for vector in vectors))


def _write_array(file: BinaryIO, vectors: Iterator[Any], count: int, like: Any) -> None:
    """Write an npy file of shape [count, D] from vectors with the shape and type of `like`."""
    import numpy as np

    about = {"descr": np.lib.format.dtype_to_descr(like.dtype), "fortran_order": False, "shape": (count, *like.shape)}
    np.lib.format.write_array_header_1_0(file, about)
    file.writelines(vector.tobytes() for vector in vectors)


def _line(content: Any) -> bytes:
    return f"{json.dumps(content, ensure_ascii=False)}\n".encode()


def _numbers(vector: Any) -> list[float] | None:
    """An embedding rounded to the 9 digits that float32 can hold; None for a row without a text."""
    return None if vector[0] != vector[0] else [float(f"{x:.9g}") for x in vector]


if __name__ == "__main__":
    cli.run_main(main)
