"""The plots of docs/performance.md, in docs/plots, and how every plot of a page is drawn."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.record import Row
from benchmarks.targets import rows

PLOTS = Path(__file__).resolve().parents[1] / "docs/plots"


@contextmanager
def drawn(name: str) -> Iterator[Any]:
    """The axes of a plot, which is written to docs/plots/NAME.svg at the end."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "jaxft"  # the same file from the same numbers
    import matplotlib.pyplot as plt

    PLOTS.mkdir(exist_ok=True)
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    yield axes
    figure.savefig(PLOTS / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def draw() -> None:
    """Draw the plots whose result files exist."""
    for plot, file in ((peers, "peers.json"), (planning, "input.json"), (scaling, "scaling.json")):
        if found := rows(file):
            with drawn(plot.__name__) as axes:
                plot(axes, found)


def peers(axes: Any, found: list[Row]) -> None:
    """Examples per second relative to Trainer, a group of bars per recipe and processor."""
    groups = list(dict.fromkeys((row["recipe"], row["processor"]) for row in found))
    sides = list(dict.fromkeys(row["side"] for row in found))
    width = 0.8 / len(sides)
    for i, side in enumerate(sides):
        ratios = {(x["recipe"], x["processor"]): x["times_trainer"]["median"] for x in found if x["side"] == side}
        own = [group for group in groups if group in ratios]
        offset = (i - len(sides) / 2 + 0.5) * width
        axes.bar([groups.index(group) + offset for group in own], [ratios[group] for group in own], width, label=side)
    axes.set_xticks(range(len(groups)), [f"{Path(recipe).stem}\n{short(processor)}" for recipe, processor in groups])
    axes.set_ylabel("examples/s, times Trainer in float32")
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.legend(fontsize="small")


def short(processor: str) -> str:
    """The vendor and widest vector or matrix unit of a processor."""
    return f"{re.split('[ (]', processor, maxsplit=1)[0]} {re.split('[()]', processor)[-2]}"


def planning(axes: Any, found: list[Row]) -> None:
    """Seconds to compute the batches of an epoch, a line per layout."""
    found = [row for row in found if row["what"] == "planning"]
    for layout in dict.fromkeys(row["layout"] for row in found):
        own = [row for row in found if row["layout"] == layout]
        axes.loglog([row["examples"] for row in own], [row["plan_seconds"] for row in own], marker="o", label=layout)
    axes.set_xlabel("examples")
    axes.set_ylabel("seconds to plan an epoch")
    axes.legend()


def scaling(axes: Any, found: list[Row]) -> None:
    """The time per token relative to the first point, a line per axis."""
    for axis in dict.fromkeys(row["axis"] for row in found):
        own = [row for row in found if row["axis"] == axis]
        costs = [row["microseconds_a_token"]["median"] for row in own]
        axes.plot([row["value"] for row in own], [x / costs[0] for x in costs], marker="o", label=axis)
    axes.set_xscale("log", base=2)
    axes.set_ylabel("cost of a token, the first is 1")
    axes.legend()
