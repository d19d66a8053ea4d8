"""jaxft predict RUN_OR_MODEL_DIR --input FILE --output FILE: a row of predictions for every row of the input.

Without a task's head, or with --features, the rows are embeddings; --output FILE.npy writes them as one array."""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from jaxft import cli, rundir, runtime
from jaxft.config import Config
from jaxft.errors import UserError
from jaxft.output import check_output, reading, writing
from jaxft.progress import Progress

PROG = "jaxft predict"
RUN_OPTIONS = "Every option of the run may be given anew, such as --data.text COLUMN (jaxft train --help data)."
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
        answers = _answers(args, replace(config, data=data))
        written, odd = _write(answers, args.output, drop=empty == "drop")
    lost = ("left out" if empty == "drop" else "null") + ": no usable text (data.empty_texts)"
    more = f"; {odd} {'row is' if odd == 1 else 'rows are'} {lost}" if odd else ""
    print(f"wrote {written} {'embeddings' if answers.arrays else 'predictions'} to {args.output}{more}", file=sys.stderr)


@dataclass(frozen=True)
class _Answers:
    """What is computed, as it is asked for.

    Attributes:
      count: of the rows.
      odd: of the rows without a text.
      predictions: of the rows; nothing where there are embeddings.
      arrays: of embeddings [n, D].
      document: how the task puts predictions into a json file.
    """

    count: int
    odd: int
    predictions: Iterator[dict[str, Any]] | None = None
    arrays: Iterator[Any] | None = None
    document: Callable[[list[dict[str, Any]]], Any] | None = None


def _answers(args: argparse.Namespace, config: Config) -> _Answers:
    """Predictions, or embeddings where there is no head or they are wanted."""
    runtime.start(precision=config.runtime.precision, compile_cache=config.runtime.compile_cache, distributed="off")
    from jaxft import inference
    from jaxft.data.odd import odd_rows
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
        answers = inference.predict(opened, rows, "test")
        return _Answers(len(rows), int(odd_rows(rows).sum()), predictions=answers, document=opened.task.document)
    from jaxft.features import embeddings
    from jaxft.tasks import texts

    rows = texts.read(config.data, "test")
    if most := config.data.max_eval_examples:
        rows = rows.select(range(min(most, len(rows))))
    arrays = embeddings(args.model, config, rows, str(config.data.test), features)
    return _Answers(len(rows), int(odd_rows(rows).sum()), arrays=arrays)


def _write(answers: _Answers, output: str, *, drop: bool) -> tuple[int, int]:
    """(rows written, rows without a text); these are left out on request. What is computed is written at once."""
    progress = Progress("predicting", answers.count)
    if answers.arrays is None:
        assert answers.predictions is not None
        return _write_predictions(answers, output, progress, drop=drop)
    first = next(answers.arrays)  # before the output is opened: most errors come by then
    done = odd = 0
    with writing(output) as file:
        if output.endswith(ARRAY):
            _begin_array(file, answers.count - (answers.odd if drop else 0), first)
        for array in itertools.chain([first], answers.arrays):
            null = array[:, 0] != array[:, 0]
            done, odd = done + len(array), odd + int(null.sum())
            kept = array[~null] if drop else array
            if output.endswith(ARRAY):
                file.write(kept.tobytes())
            else:
                file.writelines(_line({"embedding": _numbers(row)}) for row in kept)
            progress.at(done)
    return done - (odd if drop else 0), odd


def _write_predictions(answers: _Answers, output: str, progress: Progress, *, drop: bool) -> tuple[int, int]:
    from jaxft.data.odd import is_null

    assert answers.predictions is not None
    first = next(answers.predictions)
    done = odd = 0
    whole = [] if output.endswith(DOCUMENT) and answers.document else None  # a document takes all predictions
    with writing(output) as file:
        for row in itertools.chain([first], answers.predictions):
            null = is_null(row)
            done, odd = done + 1, odd + null
            progress.at(done)
            if null and drop:
                continue
            if whole is None:
                file.write(_line(row))
            else:
                whole.append(row)
        if whole is not None and answers.document:
            file.write(json.dumps(answers.document(whole), ensure_ascii=False, indent=1).encode())
    return done - (odd if drop else 0), odd


def _line(content: Any) -> bytes:
    return f"{json.dumps(content, ensure_ascii=False)}\n".encode()


def _begin_array(file: BinaryIO, rows: int, like: Any) -> None:
    """Write the header of an npy file with this number of rows."""
    import numpy as np

    about = {"descr": np.lib.format.dtype_to_descr(like.dtype), "fortran_order": False, "shape": (rows, *like.shape[1:])}
    np.lib.format.write_array_header_1_0(file, about)


def _numbers(vector: Any) -> list[float] | None:
    """An embedding with as many digits as float32 holds; None for a row without a text."""
    return None if vector[0] != vector[0] else [float(f"{x:.9g}") for x in vector]


if __name__ == "__main__":
    cli.run_main(main)
