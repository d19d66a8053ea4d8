"""Several runs beside each other: their scores and the options in which they differ."""

import json
from collections.abc import Sequence
from typing import Any

from jaxft.report.markup import Markup, element, number, section, table
from jaxft.report.run_files import RunFiles

_ANYWHERE = ("output_dir", "log.")  # where a run is written does not change it


def differences(runs: Sequence[RunFiles]) -> dict[str, list[Any]]:
    """The values of each option whose value is not the same in all runs; None for a run that does not know it."""
    names = sorted({name for run in runs for name in run.config})
    values = {name: [run.config.get(name) for run in runs] for name in names if not name.startswith(_ANYWHERE)}
    return {name: found for name, found in values.items() if any(x != found[0] for x in found)}


def comparison(runs: Sequence[RunFiles]) -> Markup:
    """The table of scores, each with its difference from the first run, and the table of options."""
    names = list(dict.fromkeys(name for run in runs for name in run.results))
    rows = []
    for name in names:
        values = [run.results.get(name) for run in runs]
        rows.append([name, *(_with_difference(value, values[0], is_first=i == 0) for i, value in enumerate(values))])
    heads = [run.name for run in runs]
    scores = table(["score", *heads], rows, label="Scores of the runs")
    changed = differences(runs)
    if changed:
        cells = [[name, *(_shown(x) for x in values)] for name, values in changed.items()]
        options = table(["option", *heads], cells, label="Options that differ", numbers_from=99)
    else:
        options = element("p", "All options are the same.")
    about = f"In brackets: the difference from {runs[0].name}."
    return Markup(section("Scores", scores, about=about) + section("Options that differ", options))


def _with_difference(value: float | None, first: float | None, *, is_first: bool) -> str:
    if is_first or value is None or first is None:
        return number(value)
    return f"{number(value)} ({value - first:+.4g})"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
