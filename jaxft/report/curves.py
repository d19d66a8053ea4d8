"""The curves of one or several runs: loss, scores, learning rates and speed, over steps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxft.report.markup import Markup, element, section
from jaxft.report.plot import Line, line_chart, smoothed
from jaxft.report.run_files import RunFiles, is_number

STEP = "step"
ENOUGH = 20  # points from which smoothing shows more than the points themselves
FIRST = ("accuracy", "f1", "macro_f1", "micro_f1", "exact_match", "mcc", "pearson", "spearman")


def training(runs: Sequence[RunFiles]) -> Markup:
    """The curves of loss and scores."""
    several = len(runs) > 1
    lines = [line for i, run in enumerate(runs) for line in _loss(run, i, several=several)]
    charts = [line_chart(lines, label="Loss", x_label=STEP)]
    names = {name: None for run in runs for row in run.evaluations for name, x in row.items() if is_number(x)}
    shown: list[list[Any]] = []
    scored = [x.removeprefix("eval/") for x in names if x.startswith("eval/")]
    for name in _ordered([x for x in scored if several or x != "loss"]):  # that of one run stands beside its training loss
        scores = [
            Line(run.name if several else "", _points(run.evaluations, f"eval/{name}"), i, dots=True)
            for i, run in enumerate(runs)
        ]
        points = [line.points for line in scores]
        if points not in shown:  # micro F1 is the accuracy if each text has one label
            charts.append(line_chart(scores, label=f"Validation {name}", x_label=STEP))
            shown.append(points)
    about = "Faint lines are the loss of single steps, strong ones its moving average." if _is_smooth(runs) else None
    missing = [run.name for run in runs if not run.evaluations]
    note = element("p", f"No evaluation yet: {', '.join(missing)}.", class_="about") if missing else None
    return section("Training", note, element("div", charts, class_="grid"), about=about)


def pace(runs: Sequence[RunFiles]) -> Markup:
    """Learning rates, gradient norms and speed."""
    several = len(runs) > 1
    charts = []
    rates = [line for i, run in enumerate(runs) for line in _rates(run, i, several=several)]
    charts.append(line_chart(rates, label="Learning rate", x_label=STEP, zero=True))
    for key, label in (("grad_norm", "Gradient norm, before clipping"), ("tokens_per_second", "Tokens per second")):
        lines = [Line(run.name if several else "", _points(run.steps, key), i) for i, run in enumerate(runs)]
        charts.append(line_chart(lines, label=label, x_label=STEP, zero=True))
    return section("Pace", element("div", charts, class_="grid"))


def _loss(run: RunFiles, index: int, *, several: bool) -> Iterator[Line]:
    """Raw and smoothed loss of training, and of one run also the loss of validation."""
    points = _points(run.steps, "loss")
    name = run.name if several else "training"
    enough = len(points) >= ENOUGH
    if enough:
        yield Line("", points, index, faint=True)
    yield Line(name, smoothed(points) if enough else points, index)
    if not several:
        yield Line("validation", _points(run.evaluations, "eval/loss"), index + 1, dots=True)


def _rates(run: RunFiles, index: int, *, several: bool) -> Iterator[Line]:
    """The learning rate of each group of parameters, or of a factor 1 if they are not known or there are several runs."""
    groups = [] if several else run.figures.get("groups", [])
    for i, group in enumerate(groups):
        yield Line(group["pattern"], list(zip(group["steps"], group["learning_rates"], strict=True)), i)
    if not groups:
        yield Line(run.name if several else "", _points(run.steps, "learning_rate"), index)


def _points(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float | None]]:
    return [(row["step"], row[name] if is_number(row[name]) else None) for row in rows if name in row]


def _is_smooth(runs: Sequence[RunFiles]) -> bool:
    return any(len(run.steps) >= ENOUGH for run in runs)


def _ordered(names: Sequence[str]) -> list[str]:
    """The well-known scores first."""
    return sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
