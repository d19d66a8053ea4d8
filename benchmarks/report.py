"""Make the tables and plots of docs/performance.md from benchmarks/results; without a file, a table says "not measured".

python -m benchmarks.report
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import targets
from benchmarks.targets import rows

ROOT = Path(__file__).resolve().parents[1]
PAGE, PLOTS = ROOT / "docs/performance.md", ROOT / "docs/plots"
MISSING = "not measured"
PADDING = ("pack", "whole steps", "evaluation", "bucket", "pad")
Row = dict[str, Any]


def table(heads: Iterable[str], body: Iterable[Iterable[Any]]) -> list[str]:
    """Markdown."""
    heads = list(heads)
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return [*lines, *(f"| {' | '.join(map(str, cells))} |" for cells in body)]


def number(x: float, digits: int = 3) -> str:
    """A number with the given digits and thousands separators."""
    return f"{float(f'{x:.{digits}g}'):,.10g}"


def middle(spread: Row, scale: float = 1.0) -> str:
    """Median (quartiles)."""
    low, high = spread["quartiles"]
    return f"{number(spread['median'] * scale)} ({number(low * scale)} to {number(high * scale)})"


def seconds(spread: Row) -> str:
    """Median (quartiles) in milliseconds."""
    return middle(spread, 1e3)


def where(row: Row) -> str:
    """The device, or the kind of processor."""
    return row["processor"] if row["device"] == "cpu" else row["device"]


def short(processor: str) -> str:
    """The vendor and widest vector or matrix unit of a processor."""
    return f"{re.split('[ (]', processor, maxsplit=1)[0]} {re.split('[()]', processor)[-2]}"


def peers() -> list[str]:
    """Whole loops."""
    body = [
        [
            row["processor"],
            f"`{' '.join([row['recipe'], *row['options']])}`",
            row["side"],
            middle(row["examples_per_second"]),
            middle(row["tokens_per_second"]),
            f"{row['padding']:.0%}",
            row["times_trainer"]["median"],
            row["first_step_seconds"],
            row.get("compile_seconds") or "",
            number(row["peak_bytes"] / 2**30),
            row["commit"],
        ]
        for row in sorted(rows("peers.json"), key=lambda row: (row["processor"], row["recipe"]))
    ]
    heads = (
        "processor",
        "recipe",
        "side",
        "examples/s",
        "real tokens/s",
        "padding",
        "times Trainer",
        "first step, s",
        "of which compiling",
        "peak GiB",
        "code",
    )
    return table(heads, body) if body else [MISSING]


def steps() -> list[str]:
    """Single steps."""
    body = [
        [
            f"{row['name']} ({where(row)})",
            f"{row['shape'][0]} x {row['shape'][1]}",
            row["case"]["dtype"],
            seconds(row["seconds"]),
            number(row["tokens_per_second"]["median"]),
            f"{row['share_of_peak']['median']:.0%}",
            number(row["host_seconds"]["median"] * 1e3),
            f"{row['compile_seconds']['cold']}, {row['compile_seconds']['warm']}",
            number(row["memory_bytes"] / 2**20),
        ]
        for row in [*rows("step.json"), *rows("gpu_steps.json")]
    ]
    heads = ("step", "rows x length", "type", "ms", "real tokens/s", "of peak", "host ms", "compile s: cold, warm", "MiB")
    return table(heads, body) if body else [MISSING]


def parts(*files: str) -> list[str]:
    """Alternatives of a part."""
    lines: list[str] = []
    for row in [row for file in files for row in rows(file)]:
        body = [
            [f"{name}{' (default)' * (name == row['default'])}", seconds(found["seconds"]), middle(found["ratio"])]
            for name, found in row["rows"].items()
        ]
        lines += ["", f"{row['what']} ({where(row)}):", "", *table(("alternative", "ms", "ratio"), body)]
    return lines[1:] or [MISSING]


def inputs() -> list[str]:
    """Planning, building, waste."""
    found = rows("input.json")
    if not found:
        return [MISSING]
    plan = [
        [f"{row['examples']:,}", row["layout"], row["declare_seconds"], row["plan_seconds"], row["nanoseconds_an_example"]]
        for row in found
        if row["what"] == "planning"
    ]
    build = [
        [row["layout"], row["batch_size"], middle(row["tokens_per_second"], 1e-6)]
        for row in found
        if row["what"] == "building"
    ]
    waste = [
        [row["data"], row["batch_size"], *(f"{row['padding'][x]:.1%}" for x in PADDING)]
        for row in found
        if row["what"] == "waste"
    ]
    return [
        *table(("examples", "layout", "declare shapes, s", "plan an epoch, s", "ns an example"), plan),
        "",
        *table(("layout", "batch", "million real tokens/s of one thread"), build),
        "",
        *table(("data", "batch", *(f"padding: {x}" for x in PADDING)), waste),
    ]


def scaling() -> list[str]:
    """Time per token."""
    body = [[row["axis"], row["value"], middle(row["microseconds_a_token"])] for row in rows("scaling.json")]
    return table(("what grows", "to", "microseconds a token"), body) if body else [MISSING]


def aot() -> list[str]:
    """Programs for devices that are not attached."""
    body = []
    for row in rows("aot.json"):
        talk = ", ".join(f"{x['count']} {kind} {number(x['bytes'] / 2**20)} MiB" for kind, x in row["collectives"].items())
        body.append(
            [
                row["name"],
                f"{row['case']['batch']} x {row['case']['length']}",
                f"{number(row['memory_bytes'] / 2**30)} of {number(row['of_memory_bytes'] / 2**30)}",
                f"{row['rows_that_fit']:,}",
                talk or "none",
                number(row["gradient_bytes"] / 2**20),
                ", ".join(row["float32_scores"]) or "none",
                f"{row['predicted_share_of_peak']:.0%} ({row['predicted_bound']})",
            ]
        )
    heads = (
        "case",
        "rows",
        "GiB a chip",
        "rows that fit",
        "exchanges",
        "gradients, MiB",
        "float32 scores",
        "predicted, of peak",
    )
    return table(heads, body) if body else [MISSING]


def gpu() -> list[str]:
    """Whole loops on a GPU, and what could not be measured."""
    body = [
        [
            f"{row['what']} {row['size']} ({row['device']})",
            row["side"],
            *(
                [f"not measured: {row['skipped']}", "", "", ""]
                if "skipped" in row
                else [
                    middle(row["examples_per_second"]),
                    middle(row["tokens_per_second"]),
                    row.get("times_torch", {}).get("median", ""),
                    row.get("times_compile", {}).get("median", ""),
                ]
            ),
        ]
        for row in rows("gpu.json")
    ]
    heads = ("what", "side", "examples/s", "real tokens/s", "times PyTorch", "times torch.compile")
    return table(heads, body) if body else [MISSING]


def first_steps() -> list[str]:
    """From the command to the first step."""
    body = [
        [row["processor"], f"`{row['recipe']}`", middle(row["cold_seconds"]), middle(row["warm_seconds"])]
        for row in rows("first_step.json")
    ]
    return table(("processor", "recipe", "cold, s", "warm, s"), body) if body else [MISSING]


def profiles() -> list[str]:
    """Where the time of a step goes."""
    body = [
        [
            f"{row['name']} ({where(row)})",
            number(row["seconds"] * 1e3),
            ", ".join(f"{kind} {x:.0%}" for kind, x in row["shares"].items()),
        ]
        for row in rows("profile.json")
    ]
    return table(("step", "ms", "of the seconds of its operations"), body) if body else [MISSING]


def memories() -> list[str]:
    """Memory over a run."""
    made = rows("memory.json")
    peaks = {(row["processor"], row["batch"], row["length"]): row["peak_bytes"] for row in made if row["side"] == "trainer"}
    body = []
    for row in made:
        held = row["after_evaluations_bytes"]
        base = peaks.get((row["processor"], row["batch"], row["length"]))
        body.append(
            [
                row["processor"],
                f"{row['batch']} x {row['length']}",
                row["side"],
                *(number(x / 2**30) for x in (row["loaded_bytes"], held[0], held[1], max(held[2:]), row["peak_bytes"])),
                number(row["peak_bytes"] / base) if base else "",
            ]
        )
    heads = ("processor", "batch", "side", "loaded", "first", "second", "largest later", "peak", "times Trainer's peak")
    return table(heads, body) if body else [MISSING]


def plots() -> None:
    """Draw what has been measured."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "jaxft"  # the same file from the same numbers
    import matplotlib.pyplot as plt

    def save(name: str, draw: Callable[[Any], None]) -> None:
        figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
        draw(axes)
        PLOTS.mkdir(exist_ok=True)
        figure.savefig(PLOTS / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)

    if found := rows("peers.json"):
        recipes = list(dict.fromkeys((row["recipe"], row["processor"]) for row in found))
        sides = list(dict.fromkeys(row["side"] for row in found))

        def draw_peers(axes: Any) -> None:
            for i, side in enumerate(sides):
                mine = [row for row in found if row["side"] == side]
                own = {(row["recipe"], row["processor"]): row["times_trainer"]["median"] for row in mine}
                places = [j + (i - len(sides) / 2 + 0.5) * 0.8 / len(sides) for j, name in enumerate(recipes) if name in own]
                axes.bar(places, [own[name] for name in recipes if name in own], 0.8 / len(sides), label=side)
            axes.set_xticks(range(len(recipes)), [f"{Path(name).stem}\n{short(processor)}" for name, processor in recipes])
            axes.set_ylabel("examples/s, times Trainer in float32")
            axes.axhline(1, color="grey", linewidth=0.8)
            axes.legend(fontsize="small")

        save("peers", draw_peers)
    if planning := [row for row in rows("input.json") if row["what"] == "planning"]:

        def draw_planning(axes: Any) -> None:
            for layout in dict.fromkeys(row["layout"] for row in planning):
                own = [row for row in planning if row["layout"] == layout]
                axes.loglog([row["examples"] for row in own], [row["plan_seconds"] for row in own], marker="o", label=layout)
            axes.set_xlabel("examples")
            axes.set_ylabel("seconds to plan an epoch")
            axes.legend()

        save("planning", draw_planning)
    if found := rows("scaling.json"):

        def draw_scaling(axes: Any) -> None:
            for axis in dict.fromkeys(row["axis"] for row in found):
                own = [row for row in found if row["axis"] == axis]
                costs = [row["microseconds_a_token"]["median"] for row in own]
                axes.plot([row["value"] for row in own], [x / costs[0] for x in costs], marker="o", label=axis)
            axes.set_xscale("log", base=2)
            axes.set_ylabel("cost of a token, the first is 1")
            axes.legend()

        save("scaling", draw_scaling)


SECTIONS: dict[str, Callable[[], list[str]]] = {
    "targets": lambda: table(("where and what", "at least", "aim", "worst", "best", ""), targets.lines()),
    "first step": first_steps,
    "peers": peers,
    "profile": profiles,
    "memory": memories,
    "step": steps,
    "alternatives": lambda: parts("alternatives.json"),
    "attention": lambda: parts("attention.json", "gpu_attention.json"),
    "dropout": lambda: parts("dropout.json"),
    "optimizer": lambda: parts("optimizer.json"),
    "input": inputs,
    "scaling": scaling,
    "aot": aot,
    "gpu": gpu,
}


def main() -> None:
    """Write every section into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, make in SECTIONS.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        made = "\n".join([begin, *make(), end])
        text, count = re.subn(f"{begin}.*?{end}", lambda _, made=made: made, text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{PAGE}: {count} places for {name}")
    PAGE.write_text(text, encoding="utf-8")
    plots()


if __name__ == "__main__":
    main()
