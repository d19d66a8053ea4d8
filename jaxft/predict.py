"""jaxft predict RUN_OR_MODEL_DIR --input FILE --output FILE: write one prediction per row of the input.

With --features, or if the model has no task head, it writes embeddings; --output FILE.npy writes them as one array."""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from jaxft.config import Config, cli
from jaxft.core import distributed
from jaxft.core.cluster import cluster_announced
from jaxft.core.errors import UserError, naming
from jaxft.core.model_source import resolve
from jaxft.core.output import STANDARD, check_output, reading, writing
from jaxft.core.partial_output import PartialOutput, is_possible
from jaxft.core.signals import said_when_stopped
from jaxft.run import rundir
from jaxft.run.joined import joined
from jaxft.run.trained_models import fetched, model_directory, model_of_task

if TYPE_CHECKING:  # not at run time: JAX is imported when the options are known to be right
    from jaxft.evaluation.chunks import Pass, Place
    from jaxft.training.rows_display import RowsDisplay

    Chunks = Iterator[tuple[Iterator[Any], Place]]

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
    config = rundir.config_of(args.model, overrides, task=args.task)
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
    kept = _Kept(args.output)
    with (
        reading(args.input) as path,
        naming("--input", instead_of="data.test"),
        joined(config),
        closing(kept),
        said_when_stopped(kept.text) as check,
    ):
        # Dropped rows are predicted as null, and counted when the others are written.
        read_as = "null" if drop else empty
        data = replace(config.data, dataset=None, test=path, empty_texts=read_as, max_eval_examples=most)
        outputs = _compute(args, replace(config, data=data), kept, check, drop=drop)
        with closing(outputs.display):
            if distributed.is_main_process():
                _write(outputs, kept, drop=drop)
            else:
                for rows, _ in outputs.chunks:  # all processes compute them together
                    for _ in rows:
                        pass
                return
    lost = f"{'left out' if drop else 'null'}: no usable text (data.empty_texts)"
    more = f"; {kept.empty} {'row is' if kept.empty == 1 else 'rows are'} {lost}" if kept.empty else ""
    kind = outputs.kind.removesuffix("s") if kept.written == 1 else outputs.kind
    print(f"wrote {kept.written} {kind} to {kept.where}{more}", file=sys.stderr)


@dataclass
class _Kept:
    """What an output has so far: rows that are written, rows without a text, which may be left out, and the partial file."""

    output: str
    written: int = 0
    empty: int = 0
    partial: PartialOutput | None = None

    @property
    def where(self) -> str:
        return "standard output" if self.output == STANDARD else self.output

    def close(self) -> None:
        """Let other commands write the output."""
        if self.partial is not None:
            self.partial.close()

    def text(self) -> str:
        """What a command says that is stopped."""
        if not distributed.is_main_process():
            return "stopped; the same command goes on after the rows that process 0 has written"
        if self.partial is not None and (note := self.partial.note):
            rows = f"{note['rows']:,} of {note['of']:,} rows"
            return f"stopped; {rows} are kept in {self.partial.path}, and the same command goes on there"
        if self.written and not is_possible(self.output):
            return f"stopped; about {self.written:,} rows are written to {self.where}"
        return f"stopped; nothing is written to {self.where}"


@dataclass(frozen=True)
class _Outputs:
    """Outputs ("predictions" or "embeddings", the `kind`), which `chunks` computes lazily with the place after each chunk.

    A row is a mapping or a vector [D]; `is_null` tells whether it belongs to an input without a text, `begin` writes what
    stands before all rows, given the first one, and `write` writes rows.
    """

    kind: str
    chunks: "Chunks"
    is_null: Callable[[Any], bool]
    write: Callable[[BinaryIO, Iterator[Any]], None]
    display: "RowsDisplay"
    total: int
    begin: Callable[[BinaryIO, Any], None] = lambda *_: None


def _compute(args: argparse.Namespace, config: Config, kept: _Kept, check: Callable[[], None], *, drop: bool) -> _Outputs:
    """The predictions, or embeddings if requested or if there is no head; `drop` leaves out rows without a text."""
    from jaxft.data.reading.empty_texts import empty_rows, is_null
    from jaxft.evaluation import inference, row_formats
    from jaxft.evaluation.chunks import Place
    from jaxft.run.agreement import check_same_rows
    from jaxft.tasks import task_class
    from jaxft.tasks.custom import file_rows

    head, hf_config = inference.head_of(args.model, config)
    headless = head in (None, "feature-extraction")
    features = args.features or ("mean" if headless else None)
    if args.output.endswith(ARRAY) and features is None:
        raise UserError(f"--output {args.output}: an array holds embeddings only; give --features {', '.join(FEATURES)}")
    given = {"--features": features, "--keep_columns": args.keep_columns} | ({"data.empty_texts": "drop"} if drop else {})
    if features is None:
        config = inference.config_with_task(args.model, config)
        rows = inference.read_split(config, "test", labelled=False)
        check_same_rows(rows, str(config.data.test))
        if args.output.endswith(DOCUMENT):
            task_class(config).check_document(rows)
        way, display = _way(args, config, rows, kept, check, given)
        opened = inference.load_for_inference(args.model, config)
        chunks, rest = _peek(inference.predicted_chunks(opened, rows, "test", way)), (display, len(rows))
        if args.keep_columns:
            if file_rows(type(opened.task), rows) is None:
                raise UserError(f"--keep_columns: predictions of {opened.task.kind} are not of single rows of {args.input}")
            chunks = _beside_columns(chunks, type(opened.task), rows, config, way.start.rows)
            return _Outputs("predictions", chunks, lambda row: is_null(row[1]), row_formats.write_merged, *rest)
        if args.output.endswith(DOCUMENT):
            write = partial(row_formats.write_document, document=opened.task.document)
            whole = itertools.chain.from_iterable(found for found, _ in chunks)
            return _Outputs("predictions", iter([(whole, Place(len(rows)))]), is_null, write, *rest)
        return _Outputs("predictions", chunks, is_null, row_formats.write_lines, *rest)
    if args.keep_columns:
        raise UserError("--keep_columns: is for predictions of a task; embeddings are written without columns")
    from jaxft.run.stored_cleaning import cleaned_as_stored
    from jaxft.tasks import texts

    config = cleaned_as_stored(config, hf_config)
    rows = texts.read(config.data, "test")
    check_same_rows(rows, str(config.data.test))
    if most := config.data.max_eval_examples:
        rows = rows.select(range(min(most, len(rows))))
    way, display = _way(args, config, rows, kept, check, given)
    found = inference.embedded_chunks(args.model, config, rows, str(config.data.test), features, way)
    chunks = _peek((iter(vectors), place) for vectors, place in found)
    write, begin = row_formats.write_embeddings, _Outputs.begin
    if args.output.endswith(ARRAY):
        count = len(rows) - (int(empty_rows(rows).sum()) if drop else 0)
        write, begin = row_formats.write_vectors, partial(row_formats.write_array_header, count=count)
    return _Outputs("embeddings", chunks, lambda x: bool(x[0] != x[0]), write, display, len(rows), begin)


def _way(
    args: argparse.Namespace,
    config: Config,
    rows: Any,
    kept: _Kept,
    check: Callable[[], None],
    given: dict[str, Any],
) -> tuple["Pass", "RowsDisplay"]:
    """(how the rows are passed over, from where an earlier command was stopped, the display of their progress)."""
    from jaxft.evaluation.chunks import Pass, Place
    from jaxft.evaluation.made_of import made_of
    from jaxft.run.input_files import of_data
    from jaxft.training.rows_display import RowsDisplay

    def look() -> PartialOutput:
        """Find what an earlier command has written."""
        files = of_data(config.data)["data.test"].values() if args.keep_columns else ()
        found = PartialOutput(args.output, made_of(args.model, config, rows, {**given, "the file of --input": [*files]}))
        if found.unused:
            print(f"{found.path}: is not used, and begins anew: {found.unused}", file=sys.stderr)
        elif found.note:
            print(f"{found.path}: has {found.note['rows']:,} of {len(rows):,} rows; goes on there", file=sys.stderr)
        return found

    if is_possible(args.output) and not args.output.endswith(DOCUMENT):
        kept.partial = distributed.by_main_process(look)
        place = (kept.partial.note if kept.partial else {}).get("place", Place().as_json())
        start = Place.of_json(json.loads(distributed.text_from_main(json.dumps(place))))
    else:
        start = Place()
    display = RowsDisplay("predicting", config.log, len(rows), start.rows)
    return Pass(start, display.at, check), display


def _beside_columns(chunks: "Chunks", task: Any, rows: Any, config: Config, start: int) -> "Chunks":
    """The chunks, after `start` rows, with (the columns of a row of the input, its prediction) instead of predictions."""
    from jaxft.data.reading.row_numbers import select_rows
    from jaxft.evaluation.input_columns import input_columns

    left = select_rows(rows, range(start, len(rows))) if start else rows
    columns = (own for _, own in input_columns(task, left, config, "test"))
    for predictions, place in chunks:
        yield ((next(columns), row) for row in predictions), place


def _peek(chunks: "Chunks") -> "Chunks":
    """The same chunks, the first of which is computed now, so that most errors occur before the output is opened."""
    return itertools.chain(list(itertools.islice(chunks, 1)), chunks)


def _write(outputs: _Outputs, kept: _Kept, *, drop: bool) -> None:
    """Write outputs as they are computed, and count them; `drop` leaves out rows without a text."""
    note: Mapping[str, Any] = kept.partial.note if kept.partial else {}
    kept.written, kept.empty = note.get("written", 0), note.get("empty", 0)

    def counted(rows: Iterator[Any]) -> Iterator[Any]:
        for row in rows:
            is_null = outputs.is_null(row)
            kept.empty += is_null
            if not (is_null and drop):
                kept.written += 1
                yield row

    begun = bool(note)
    with kept.partial.writing() if kept.partial else writing(kept.output) as file:
        for rows, place in outputs.chunks:
            found = rows
            if not begun:
                first = next(rows)
                outputs.begin(file, first)
                found, begun = itertools.chain([first], rows), True
            outputs.write(file, counted(found))
            if kept.partial:
                counts = {"written": kept.written, "empty": kept.empty}
                kept.partial.commit({"rows": place.rows, "of": outputs.total, "place": place.as_json(), **counts})
            else:
                file.flush()
            outputs.display.at(place.rows)


if __name__ == "__main__":
    cli.run_main(main)
