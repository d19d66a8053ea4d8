"""jaxft report RUN [RUN ...] [--output FILE]: write one html file that shows a run, or compares several.

It has curves, scores, confusions, calibration, the worst errors and the options, and needs neither a network nor scripts."""

import sys
from pathlib import Path

from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.core.output import check_output
from jaxft.core.paths import refuse_url
from jaxft.report.page import FILE, write_report


def main(argv: list[str]) -> None:
    """Write the report and say where it is."""
    parser = cli.Parser(prog="jaxft report", description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="output_dir of a run; of several, the first is the reference")
    parser.add_argument("--output", metavar="FILE", help=f"file to write; of one run, RUN/{FILE} if none is given")
    args = parser.parse_args(argv)
    for run in args.runs:
        refuse_url("RUN", run)
    if args.output is None and len(args.runs) > 1:
        raise UserError("--output FILE: say where to write the report of several runs")
    output = args.output or str(Path(args.runs[0]) / FILE)
    if args.output:
        check_output(output)
        if output != "-" and not output.endswith((".html", ".htm")) and not Path(output).exists():
            raise UserError(f"--output {output}: the report is html; give a name that ends in .html")
    write_report(args.runs, output)
    print(f"wrote the report to {'standard output' if output == '-' else output}", file=sys.stderr)


if __name__ == "__main__":
    cli.run_main(main)
