"""The learning rate of each row of the parameter plan over the steps of a run, as text and as a plot."""

import importlib.util
from dataclasses import replace

import numpy as np

from jaxft.core.errors import UserError
from jaxft.core.output import writing
from jaxft.optim import schedule_factor
from jaxft.run.setup import Run

SHOWN = 6  # steps in the text
POINTS = 100_000  # steps in a plot


def learning_rates(run: Run, steps: np.ndarray) -> dict[str, np.ndarray]:
    """Learning rates float32 [steps] by the pattern of each trained row; 0 before the row is unfrozen."""
    config = run.config.optim
    rates = {}
    for row in run.plan.rows:
        own = row.setting
        if own.trainable:
            scheduled = replace(config, schedule=own.schedule) if own.schedule else config
            factor = schedule_factor(scheduled, run.total_steps, np)(steps)
            rate = config.learning_rate * own.learning_rate * np.where(steps < own.unfreeze, 0.0, factor)
            rates[row.pattern] = rate.astype(np.float32)
    return rates


def lines(run: Run) -> list[str]:
    """Format the learning rates at a few steps from the first to the last as a table."""
    shown = np.unique(np.linspace(0, run.total_steps - 1, SHOWN).round().astype(int))
    head = ["learning rate at step", *(f"{step:,}" for step in shown)]
    body = [[pattern, *(f"{x:.3g}" for x in rates)] for pattern, rates in learning_rates(run, shown).items()]
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in (head, *body)]


def require_matplotlib() -> None:
    """Raise a UserError if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("--plot needs the package matplotlib: pip install 'jaxft[plot]'")


def plot(run: Run, path: str) -> None:
    """Plot the learning rates of all rows into a file. Raises a UserError if it cannot be written."""
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports] (an extra)

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    steps = np.unique(np.linspace(0, run.total_steps - 1, min(run.total_steps, POINTS)).round().astype(int))
    for pattern, rates in learning_rates(run, steps).items():
        axes.plot(steps, rates, drawstyle="steps-post", label=pattern.replace("$", r"\$"))
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate")
    axes.legend(fontsize="x-small")
    with writing(path, "--plot") as file:
        figure.savefig(file, format=path.rpartition(".")[2])
