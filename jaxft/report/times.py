"""Where the time of one or several runs went: phases, goodput, and what the step loop waited for."""

from collections.abc import Sequence
from statistics import mean

from jaxft.report.markup import Markup, element, number, section, table
from jaxft.report.plot import Line, line_chart, stacked_bars
from jaxft.report.run_files import RunFiles, is_number

_WAITS = {"share_data": "data", "share_dispatch": "dispatch", "share_device": "device"}
_ABOUT = (
    "Seconds of all starts of a run together. Goodput is the share of them that trained steps that count: not those that a "
    "later start had to do again. The shares of waiting are of training: for the next batch (data), for the call that sends "
    "a step (dispatch) and for the device, which limits the speed where its share is large."
)


def times(runs: Sequence[RunFiles]) -> Markup:
    """The phases as bars and numbers, the goodput, and the waits over steps."""
    known = [run for run in runs if run.phases]
    if not known:
        return Markup()
    several = len(runs) > 1
    bars = [(run.name if several else "", list(run.phases.items())) for run in known]
    names = list(dict.fromkeys(name for run in known for name in run.phases))
    rows = [[name, *(_seconds(run, name) for run in known)] for name in names]
    rows.append(["goodput", *(_share(run.goodput) for run in known)])
    rows += [[f"waiting for {name}", *(_share(_mean(run, key)) for run in known)] for key, name in _WAITS.items()]
    charts = [stacked_bars(bars, label="Seconds by phase", x_label="seconds")]
    if several:
        lines = [Line(run.name, _points(run, "share_data"), i) for i, run in enumerate(runs)]
        charts.append(line_chart(lines, label="Share of time waiting for data", x_label="step", zero=True))
    else:
        lines = [Line(name, _points(known[0], key), i) for i, (key, name) in enumerate(_WAITS.items())]
        charts.append(line_chart(lines, label="Share of time that the step loop waits", x_label="step", zero=True))
    head = ["phase", *(run.name if several else "seconds" for run in known)]
    return section("Time", element("div", charts, class_="grid"), table(head, rows, label="Phases"), about=_ABOUT)


def _seconds(run: RunFiles, phase: str) -> str:
    if phase not in run.phases:
        return "-"
    return f"{number(run.phases[phase])} ({run.phases[phase] / (sum(run.phases.values()) or 1):.1%})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _mean(run: RunFiles, key: str) -> float | None:
    found = [y for _, y in _points(run, key)]
    return mean(found) if found else None


def _points(run: RunFiles, key: str) -> list[tuple[float, float]]:
    return [(row["step"], row[key]) for row in run.steps if is_number(row.get(key))]
