"""jaxft report RUN [RUN ...] [--output FILE]: write one html file that shows a run, or compares several.

It has curves, scores, confusions, calibration, the worst errors and the options, and needs neither a network nor scripts."""

import os
import sys
from pathlib import Path
from typing import Any

from jaxft.config import cli
from jaxft.core import backend
from jaxft.core.errors import UserError
from jaxft.core.output import check_output
from jaxft.core.paths import is_url
from jaxft.report import mistakes, outcomes
from jaxft.report.page import FILE, write_report
from jaxft.report.run_files import read_run
from jaxft.run import rundir
from jaxft.run.trained_models import fetched


def main(argv: list[str]) -> None:
    """Write the report and say where it is."""
    parser = cli.Parser(prog="jaxft report", description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="output_dir of a run; of several, the first is the reference")
    parser.add_argument("--output", metavar="FILE", help=f"file to write; of one run, RUN/{FILE} if none is given")
    parser.add_argument("--words", action="store_true", help="colour the words of the worst errors that move the model most")
    args = parser.parse_args(argv)
    if args.output is None and len(args.runs) > 1:
        raise UserError("--output FILE: say where to write the report of several runs")
    output = args.output or (
        f"{args.runs[0].rstrip('/')}/{FILE}" if is_url(args.runs[0]) else str(Path(args.runs[0]) / FILE)
    )
    args.runs = [fetched(run) for run in args.runs]
    if args.output:
        check_output(output)
        if output != "-" and not output.endswith((".html", ".htm")) and not Path(output).exists():
            raise UserError(f"--output {output}: the report is html; give a name that ends in .html")
    elif os.path.isdir(args.runs[0]) and not os.access(args.runs[0], os.W_OK):
        raise UserError(f"{args.runs[0]}: is not writable: say with --output FILE where to write the report")
    if args.words and len(args.runs) > 1:
        raise UserError("--words: is for the report of one run")
    write_report(args.runs, output, _words(args.runs[0]) if args.words else ())
    print(f"wrote the report to {'standard output' if output == '-' else output}", file=sys.stderr)


def _words(path: str) -> list[Any]:
    """The scores of the words of the worst errors of a run with a model."""
    run = read_run(path)
    worst = outcomes.worst(mistakes.shown_predictions(run)[1], mistakes.MOST_ERRORS)
    if not worst:
        raise UserError(f"{path}: --words needs wrong predictions, which a run writes at its end (log.predictions)")
    config = rundir.read_run_config(Path(path))
    backend.start(compile_cache=config.runtime.compile_cache, distributed="off")
    from jaxft.evaluation.word_scores import word_scores

    return word_scores(path, config, worst)


if __name__ == "__main__":
    cli.run_main(main)
