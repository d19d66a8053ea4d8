"""jaxft evaluate RUN_OR_MODEL_DIR --data.validation FILE ...: compute metrics of a fine-tuned model on labelled data.

`--output` writes the wrong predictions, the worst first, and `--predictions` all of them, with the columns of their rows."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from jaxft.config import Config, cli, help
from jaxft.config.used_by import UsedBy
from jaxft.core import distributed
from jaxft.core.errors import UserError
from jaxft.core.model_source import resolve
from jaxft.core.output import check_output
from jaxft.data.reading.files import are_files
from jaxft.run import rundir
from jaxft.run.joined import joined
from jaxft.run.trained_models import fetched, model_directory, model_of_task

COMMAND = help.Command(
    "jaxft evaluate",
    "RUN_OR_MODEL_DIR --data.validation FILE [--task NAME] [--output FILE] [--predictions FILE]",
    own={
        "--task NAME": "Name of the task, if the run has several.",
        "--output FILE": "Write the wrong predictions, the worst first, with their rows: csv or jsonl.",
        "--predictions FILE": "Write all predictions with their rows and right answers: csv or jsonl.",
    },
    common=(
        *("data.validation", "data.text", "data.label", "data.max_length", "data.max_eval_examples"),
        *("eval.batch_size", "train.dtype", "task.threshold", "task.null_threshold"),
    ),
    uses=UsedBy.EVALUATE,
    note="Options that are not given are those of the run; the other options of jaxft train are accepted and ignored.",
)


def main(argv: list[str]) -> dict[str, Any]:
    """Print the metrics as one JSON object. Options default to those of the run and can be overridden."""
    cli.show_help(argv, COMMAND)
    if not argv or argv[0].startswith("-"):
        raise UserError(f"give a run or model directory first: {COMMAND.name} {COMMAND.arguments}")
    path = argv[0]
    files, task, overrides = _own_options(argv[1:])
    if any(option.partition("=")[0] in ("--data.validation", "--data.test") for option in overrides):
        overrides = ["--data.validation_share=0", *overrides]
    path = fetched(path)
    config = rundir.config_of(path, overrides, task=task)
    path = model_of_task(path, task)
    resolve(model_directory(path), config.model.revision)  # a wrong name is an error before all others
    if config.data.dataset and are_files(config.data.validation):
        config = replace(config, data=replace(config.data, dataset=None))  # a file replaces the hub data set of the run
    split = "validation" if config.data.validation else "test"
    if rundir.has_set_aside(config):
        split = "validation"
    elif not getattr(config.data, split):
        raise UserError("nothing to evaluate on: give --data.validation FILE")
    with joined(config) as chosen:
        if distributed.is_main_process():
            print(chosen.line(), file=sys.stderr)
        scores, data = evaluate(path, config, split, files)
    if distributed.is_main_process():
        print(json.dumps({"data": data, **scores}))
    return scores


def evaluate(path: str, config: Config, split: str, files: Mapping[str, str | None] = {}) -> tuple[dict[str, Any], Any]:
    """Scores of the model in RUN_OR_MODEL_DIR on the rows of a split, and which data that is.

    Args:
      path: RUN_OR_MODEL_DIR.
      config: from `rundir.config_of`.
      split: "validation" or "test"; if the run has set rows aside and has no validation data, these are its validation rows.
      files: the files of --output and --predictions by name.

    Raises:
      UserError: if the data cannot be read, or does not fit the model.
    """
    from jaxft.evaluation import inference
    from jaxft.evaluation.held_out import open_with_rows

    if (most := config.data.max_eval_examples) and distributed.is_main_process():
        print(f"the first {most:,} examples are evaluated (data.max_eval_examples)", file=sys.stderr)
    opened, rows = open_with_rows(path, config, split)
    say = partial(print, file=sys.stderr) if distributed.is_main_process() else lambda _: None
    scores, predictions = inference.evaluate(opened, rows, split, say, predictions=any(files.values()))
    if distributed.is_main_process() and any(files.values()):
        _write(files, list(predictions))
    return scores, getattr(opened.config.data, split)


def _own_options(arguments: list[str]) -> tuple[dict[str, str | None], str | None, list[str]]:
    """(the files of --output and --predictions, the task, the other arguments).

    Raises:
      UserError: for a file that cannot be written, or is neither csv nor jsonl.
    """
    parser = cli.Parser(prog=COMMAND.name, add_help=False)
    for option in COMMAND.own:
        parser.add_argument(option.split()[0])
    given, others = parser.parse_beside_config(arguments)
    files = vars(given)
    task = files.pop("task")
    for name, file in files.items():
        if file is not None:
            check_output(file, f"--{name}")
            if file != "-" and not file.endswith((".csv", ".jsonl")):
                raise UserError(f"--{name} {file}: give a file that ends in .csv or .jsonl")
    if files["output"] is not None and files["output"] == files["predictions"]:
        raise UserError(f"--output and --predictions are both {files['output']}: give different names")
    if "-" in files.values():
        raise UserError("standard output has the metrics: give --output and --predictions the names of files")
    return files, task, others


def _write(files: Mapping[str, str | None], rows: list[dict[str, Any]]) -> None:
    from jaxft.evaluation.labelled_predictions import write_rows
    from jaxft.report.outcomes import worst

    for name, some, kind in (("predictions", rows, "predictions"), ("output", worst(rows), "wrong predictions")):
        if file := files[name]:
            write_rows(file, some)
            print(f"wrote {len(some):,} {kind} to {file}", file=sys.stderr)


if __name__ == "__main__":
    cli.run_main(main)
