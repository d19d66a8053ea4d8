"""jaxft predict RUN_OR_MODEL_DIR --input FILE --output FILE: write one prediction per row of the input.

With --features, or if the model has no task head, it writes embeddings; --output FILE.npy writes them as one array."""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from jaxft.config import Config, cli
from jaxft.core import distributed
from jaxft.core.cluster import cluster_announced
from jaxft.core.errors import UserError, naming
from jaxft.core.model_source import resolve
from jaxft.core.output import STANDARD, check_output, reading, writing
from jaxft.run import rundir
from jaxft.run.joined import joined
from jaxft.run.trained_models import fetched, model_directory, model_of_task

PROG = "jaxft predict"
RUN_OPTIONS = """Options of the run apply unless they are given here, such as --data.text COLUMN for the column of the texts;
"jaxft help evaluate all" lists them."""
FEATURES = ("cls", "mean", "pooled")
ARRAY, DOCUMENT = ".npy", ".json"
OTHERS = (".csv", ".tsv", ".txt", ".parquet", ".arrow", ".xlsx")  # table formats, which are not written


def main(argv: list[str]) -> None:
    """Write one prediction or embedding per input row, in the order of the input; of several processes the first writes."""
    parser = cli.Parser(prog=PROG, description=__doc__, epilog=RUN_OPTIONS)
    parser.add_argument("model", metavar="RUN_OR_MODEL_DIR")
    inputs = "csv, tsv, json, jsonl, parquet or txt; - reads jsonl from standard input"
    outputs = "jsonl, json (one document), or npy (embeddings); - writes jsonl to standard output"
    parser.add_argument("--input", required=True, metavar="FILE", help=inputs)
    parser.add_argument("--output", required=True, metavar="FILE", help=outputs)
    parser.add_argument("--task", metavar="NAME", help="the task, if the run has several")
    features = "embeddings: of the first token, the mean over tokens, or of the pooler (default without a head: mean)"
    keep = "write the columns of the input before each prediction; one with the name of a field becomes input_..."
    parser.add_argument("--keep_columns", action="store_true", help=keep)
    parser.add_argument("--features", choices=FEATURES, help=features)
    args, overrides = parser.parse_beside_config(argv)
    check_output(args.output, source=args.input)
    if args.output.endswith(OTHERS) and not Path(args.output).exists():
        raise UserError(f"--output {args.output}: predictions are written as .jsonl or .json, embeddings also as .npy")
    if args.keep_columns and args.output.endswith((ARRAY, DOCUMENT)):
        raise UserError(f"--output {args.output}: --keep_columns writes json lines; give a name that ends in .jsonl")
    args.model = fetched(args.model)
    config = rundir.config_of(args.model, overrides, prog=PROG, task=args.task)
    args.model = model_of_task(args.model, args.task)
    resolve(model_directory(args.model), config.model.revision)  # a wrong name is an error before any work
    given = {option.partition("=")[0] for option in overrides}
    # The run's options are for its own rows. Predictions match the input row by row unless the command says otherwise.
    most = config.data.max_eval_examples if "--data.max_eval_examples" in given else None
    empty = config.data.empty_texts if "--data.empty_texts" in given else "null"
    drop = empty == "drop"
    if args.input == STANDARD and config.runtime.distributed != "off" and cluster_announced():
        raise UserError(
            "--input -: of several processes only one gets standard input: give a file that all of them can read, or "
            "--runtime.distributed off"
        )
    with (
        reading(args.input) as path,
        naming("--input", instead_of="data.test"),
        joined(config),
    ):
        # Dropped rows are predicted as null, and counted when the others are written.
        read_as = "null" if drop else empty
        data = replace(config.data, dataset=None, test=path, empty_texts=read_as, max_eval_examples=most)
        outputs = _compute(args, replace(config, data=data), drop=drop)
        if not distributed.is_main_process():
            for _ in outputs.rows:  # all processes compute them together
                pass
            return
        written, empty_rows = _write(outputs, args.output, drop=drop)
    lost = f"{'left out' if drop else 'null'}: no usable text (data.empty_texts)"
    more = f"; {empty_rows} {'row is' if empty_rows == 1 else 'rows are'} {lost}" if empty_rows else ""
    kind = outputs.kind.removesuffix("s") if written == 1 else outputs.kind
    where = "standard output" if args.output == "-" else args.output
    print(f"wrote {written} {kind} to {where}{more}", file=sys.stderr)


@dataclass(frozen=True)
class _Outputs:
    """Outputs ("predictions" or "embeddings", the `kind`), of which `rows` computes one per row of the input, lazily.

    A row is a mapping or a vector [D]; `is_null` tells whether it belongs to an input without a text, `write` writes rows.
    """

    kind: str
    rows: Iterator[Any]
    is_null: Callable[[Any], bool]
    write: Callable[[BinaryIO, Iterator[Any]], None]


def _compute(args: argparse.Namespace, config: Config, *, drop: bool) -> _Outputs:
    """The predictions, or embeddings if requested or if there is no head; `drop` leaves out rows without a text."""
    from jaxft.data.reading.empty_texts import empty_rows, is_null
    from jaxft.evaluation import inference
    from jaxft.run.agreement import check_same_rows
    from jaxft.tasks import task_class
    from jaxft.tasks.custom import file_rows

    head, hf_config = inference.head_of(args.model, config)
    headless = head in (None, "feature-extraction")
    features = args.features or ("mean" if headless else None)
    if args.output.endswith(ARRAY) and features is None:
        raise UserError(f"--output {args.output}: an array holds embeddings only; give --features {', '.join(FEATURES)}")
    if features is None:
        config = inference.config_with_task(args.model, config)
        rows = inference.read_split(config, "test", labelled=False)
        check_same_rows(rows, str(config.data.test))
        if args.output.endswith(DOCUMENT):
            task_class(config).check_document(rows)
        opened = inference.load_for_inference(args.model, config)
        write = partial(_write_document, document=opened.task.document) if args.output.endswith(DOCUMENT) else _write_lines
        _, predictions = _peek(inference.predict(opened, rows, "test"))
        if args.keep_columns:
            if file_rows(type(opened.task), rows) is None:
                raise UserError(f"--keep_columns: predictions of {opened.task.kind} are not of single rows of {args.input}")
            predictions = _beside_columns(predictions, type(opened.task), rows, config)
            return _Outputs("predictions", predictions, lambda row: is_null(row[1]), _write_merged)
        return _Outputs("predictions", predictions, is_null, write)
    if args.keep_columns:
        raise UserError("--keep_columns: is for predictions of a task; embeddings are written without columns")
    from jaxft.run.stored_cleaning import cleaned_as_stored
    from jaxft.tasks import texts

    config = cleaned_as_stored(config, hf_config)
    rows = texts.read(config.data, "test")
    check_same_rows(rows, str(config.data.test))
    if most := config.data.max_eval_examples:
        rows = rows.select(range(min(most, len(rows))))
    first, vectors = _peek(inference.embeddings(args.model, config, rows, str(config.data.test), features))
    kept = len(rows) - (int(empty_rows(rows).sum()) if drop else 0)
    write = partial(_write_array, count=kept, like=first) if args.output.endswith(ARRAY) else _write_embeddings
    return _Outputs("embeddings", vectors, lambda vector: bool(vector[0] != vector[0]), write)


def _beside_columns(predictions: Iterator[Any], task: Any, rows: Any, config: Config) -> Iterator[tuple[Any, Any]]:
    """Yield (the columns of a row of the input, its prediction)."""
    from jaxft.evaluation.input_columns import input_columns

    for (_, columns), row in zip(input_columns(task, rows, config, "test"), predictions, strict=True):
        yield columns, row


def _write_merged(file: BinaryIO, rows: Iterator[tuple[Any, Any]]) -> None:
    from jaxft.evaluation.input_columns import merged

    _write_lines(file, (merged(*row) for row in rows))


def _peek(rows: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
    """(the first row, all rows), so that most errors occur before the output is opened."""
    first = next(rows)
    return first, itertools.chain([first], rows)


def _write(outputs: _Outputs, output: str, *, drop: bool) -> tuple[int, int]:
    """Write outputs as they are computed; return (rows written, rows without a text, which `drop` leaves out)."""
    written = empty = 0

    def rows() -> Iterator[Any]:
        nonlocal written, empty
        for row in outputs.rows:
            is_null = outputs.is_null(row)
            empty += is_null
            if not (is_null and drop):
                written += 1
                yield row

    with writing(output) as file:
        outputs.write(file, rows())
    return written, empty


def _write_lines(file: BinaryIO, rows: Iterable[Any]) -> None:
    file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)


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


def _numbers(vector: Any) -> list[float] | None:
    """An embedding rounded to the 9 digits that float32 can hold; None for a row without a text."""
    return None if vector[0] != vector[0] else [float(f"{x:.9g}") for x in vector]


if __name__ == "__main__":
    cli.run_main(main)
