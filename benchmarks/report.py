"""Make the tables and plots of docs/performance.md, and one of docs/pods.md, from benchmarks/results.

Without a file, a table says "not measured".

python -m benchmarks.report
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import pages, plots, targets
from benchmarks.record import Row
from benchmarks.targets import rows

ROOT = Path(__file__).resolve().parents[1]
PAGE, PODS_PAGE = ROOT / "docs/performance.md", ROOT / "docs/pods.md"
PADDING = ("pack", "whole steps", "evaluation", "bucket", "pad")
Columns = dict[str, Callable[[Row], Any]]  # head -> the cell of a row


def table(found: list[Row], columns: Columns) -> list[str]:
    """A Markdown table of rows, or that there are none."""
    return pages.table(columns, ([cell(row) for cell in columns.values()] for row in found)) if found else ["not measured"]


def number(x: float, digits: int = 3) -> str:
    """A number with the given digits and thousands separators."""
    return f"{float(f'{x:.{digits}g}'):,.10g}"


def middle(spread: Row, scale: float = 1.0) -> str:
    """Median (quartiles)."""
    low, high = spread["quartiles"]
    return f"{number(spread['median'] * scale)} ({number(low * scale)} to {number(high * scale)})"


def milliseconds(spread: Row) -> str:
    """Median (quartiles) of seconds, in milliseconds."""
    return middle(spread, 1e3)


def gib(size: float) -> str:
    """A size in bytes as GiB."""
    return number(size / 2**30)


def where(row: Row) -> str:
    """The device, or the kind of processor."""
    return row["processor"] if row["device"] == "cpu" else row["device"]


def peers() -> list[str]:
    """Whole training loops."""
    columns: Columns = {
        "processor": lambda row: row["processor"],
        "recipe": lambda row: f"`{' '.join([row['recipe'], *row['options']])}`",
        "side": lambda row: row["side"],
        "examples/s": lambda row: middle(row["examples_per_second"]),
        "real tokens/s": lambda row: middle(row["tokens_per_second"]),
        "padding": lambda row: f"{row['padding']:.0%}",
        "times Trainer": lambda row: row["times_trainer"]["median"],
        "first step, s": lambda row: row["first_step_seconds"],
        "of which compiling": lambda row: row.get("compile_seconds") or "",
        "peak GiB": lambda row: gib(row["peak_bytes"]),
        "code": lambda row: row["commit"],
    }
    return table(sorted(rows("peers.json"), key=lambda row: (row["processor"], row["recipe"])), columns)


def steps() -> list[str]:
    """Single steps."""
    columns: Columns = {
        "step": lambda row: f"{row['name']} ({where(row)})",
        "rows x length": lambda row: f"{row['shape'][0]} x {row['shape'][1]}",
        "type": lambda row: row["case"]["dtype"],
        "ms": lambda row: milliseconds(row["seconds"]),
        "real tokens/s": lambda row: number(row["tokens_per_second"]["median"]),
        "of peak": lambda row: f"{row['share_of_peak']['median']:.0%}",
        "host ms": lambda row: number(row["host_seconds"]["median"] * 1e3),
        "compile s: cold, warm": lambda row: f"{row['compile_seconds']['cold']}, {row['compile_seconds']['warm']}",
        "MiB": lambda row: number(row["memory_bytes"] / 2**20),
    }
    return table([*rows("step.json"), *rows("gpu_steps.json")], columns)


def parts(*files: str) -> list[str]:
    """Alternatives of a part, a table for each measurement."""
    lines: list[str] = []
    for row in [row for file in files for row in rows(file)]:
        alternatives = [{"name": name} | found for name, found in row["rows"].items()]
        columns: Columns = {
            "alternative": lambda found, default=row["default"]: found["name"] + " (default)" * (found["name"] == default),
            "ms": lambda found: milliseconds(found["seconds"]),
            "ratio": lambda found: middle(found["ratio"]),
        }
        lines += ["", f"{row['what']} ({where(row)}):", "", *table(alternatives, columns)]
    return lines[1:] or table([], {})


def inputs() -> list[str]:
    """Batches of an epoch, speed of building them, padding."""
    found = rows("input.json")

    def part(what: str, columns: Columns) -> list[str]:
        return table([row for row in found if row["what"] == what], columns)

    if not found:
        return table([], {})
    return [
        *part(
            "planning",
            {
                "examples": lambda row: f"{row['examples']:,}",
                "layout": lambda row: row["layout"],
                "declare shapes, s": lambda row: row["declare_seconds"],
                "plan an epoch, s": lambda row: row["plan_seconds"],
                "ns an example": lambda row: row["nanoseconds_an_example"],
            },
        ),
        "",
        *part(
            "building",
            {
                "layout": lambda row: row["layout"],
                "batch": lambda row: row["batch_size"],
                "million real tokens/s of one thread": lambda row: middle(row["tokens_per_second"], 1e-6),
            },
        ),
        "",
        *part(
            "waste",
            {"data": lambda row: row["data"], "batch": lambda row: row["batch_size"]}
            | {f"padding: {x}": lambda row, x=x: f"{row['padding'][x]:.1%}" for x in PADDING},
        ),
    ]


def scaling() -> list[str]:
    """Time per token."""
    columns: Columns = {
        "what grows": lambda row: row["axis"],
        "to": lambda row: row["value"],
        "microseconds a token": lambda row: middle(row["microseconds_a_token"]),
    }
    return table(rows("scaling.json"), columns)


def aot() -> list[str]:
    """Programs for devices that are not attached."""

    def collectives(row: Row) -> str:
        found = row["collectives"].items()
        return ", ".join(f"{x['count']} {kind} {number(x['bytes'] / 2**20)} MiB" for kind, x in found) or "none"

    columns: Columns = {
        "case": lambda row: row["name"],
        "rows": lambda row: f"{row['case']['batch']} x {row['case']['length']}",
        "GiB a chip": lambda row: f"{gib(row['memory_bytes'])} of {gib(row['of_memory_bytes'])}",
        "rows that fit": lambda row: f"{row['rows_that_fit']:,}",
        "exchanges": collectives,
        "gradients, MiB": lambda row: number(row["gradient_bytes"] / 2**20),
        "float32 scores": lambda row: ", ".join(row["float32_scores"]) or "none",
        "at most, of peak": lambda row: f"{row['predicted_share_of_peak']:.0%} ({row['predicted_bound']})",
    }
    return table(rows("aot.json"), columns)


def pods() -> list[str]:
    """Bounds for many chips, of compiled programs that exchange something."""

    def mesh(row: Row) -> str:
        fsdp = row["case"]["fsdp"]
        return f"{row['chips'] // fsdp} x {fsdp}"

    def exchange(x: Row) -> str:
        over = f" on {x['hosts']} hosts" if x["hosts"] > 1 else ""
        return f"{x['count']} {x['kind']} {number(x['bytes'] / 2**20)} MiB of {x['devices']} chips{over}"

    def seconds(row: Row) -> tuple[float, float]:
        """Of computing, and of exchanging."""
        times = row["predicted_times"]
        return max(times["operations"], times["memory"]), max(times["links"], times.get("network", 0.0))

    def rows_to_hide(row: Row) -> int:
        computing, exchanging = seconds(row)
        return math.ceil(row["case"]["batch"] / row["chips"] * exchanging / computing)

    columns: Columns = {
        "case": lambda row: row["name"],
        "data x fsdp": mesh,
        "rows a chip": lambda row: f"{row['case']['batch'] // row['chips']} x {row['case']['length']}",
        "exchanges of a chip": lambda row: ", ".join(map(exchange, row["exchanges"])),
        "computing, ms": lambda row: number(seconds(row)[0] * 1e3),
        "exchanging, ms": lambda row: number(seconds(row)[1] * 1e3),
        "rows/s, at most": lambda row: number(row["case"]["batch"] / max(seconds(row))),
        "of as many single chips": lambda row: (
            f"{seconds(row)[0] / sum(seconds(row)):.0%} to {seconds(row)[0] / max(seconds(row)):.0%}"
        ),
        "rows a chip that hide the exchanges": lambda row: f"{rows_to_hide(row):,}",
    }
    return table([row for row in rows("aot.json") if row.get("exchanges")], columns)


def gpu() -> list[str]:
    """Whole loops on a GPU; a row says why something could not be measured."""

    def speed(row: Row) -> str:
        return f"not measured: {row['skipped']}" if "skipped" in row else middle(row["examples_per_second"])

    columns: Columns = {
        "what": lambda row: f"{row['what']} {row['size']} ({row['device']})",
        "side": lambda row: row["side"],
        "examples/s": speed,
        "real tokens/s": lambda row: middle(row["tokens_per_second"]) if "tokens_per_second" in row else "",
        "times PyTorch": lambda row: row.get("times_torch", {}).get("median", ""),
        "times torch.compile": lambda row: row.get("times_compile", {}).get("median", ""),
    }
    return table(rows("gpu.json"), columns)


def first_steps() -> list[str]:
    """Time from the command to the first step."""
    columns: Columns = {
        "processor": lambda row: row["processor"],
        "recipe": lambda row: f"`{row['recipe']}`",
        "cold, s": lambda row: middle(row["cold_seconds"]),
        "warm, s": lambda row: middle(row["warm_seconds"]),
    }
    return table(rows("first_step.json"), columns)


def profiles() -> list[str]:
    """Where the time of a step goes."""
    columns: Columns = {
        "step": lambda row: f"{row['name']} ({where(row)})",
        "ms": lambda row: number(row["seconds"] * 1e3),
        "of the seconds of its operations": lambda row: ", ".join(f"{kind} {x:.0%}" for kind, x in row["shares"].items()),
    }
    return table(rows("profile.json"), columns)


def memories() -> list[str]:
    """Memory over a run."""
    found = rows("memory.json")

    def case(row: Row) -> tuple[Any, ...]:
        return row["processor"], row["batch"], row["length"]

    peaks = {case(row): row["peak_bytes"] for row in found if row["side"] == "trainer"}
    columns: Columns = {
        "processor": lambda row: row["processor"],
        "batch": lambda row: f"{row['batch']} x {row['length']}",
        "side": lambda row: row["side"],
        "loaded": lambda row: gib(row["loaded_bytes"]),
        "first": lambda row: gib(row["after_evaluations_bytes"][0]),
        "second": lambda row: gib(row["after_evaluations_bytes"][1]),
        "largest later": lambda row: gib(max(row["after_evaluations_bytes"][2:])),
        "peak": lambda row: gib(row["peak_bytes"]),
        "times Trainer's peak": lambda row: number(row["peak_bytes"] / peaks[case(row)]) if case(row) in peaks else "",
    }
    return table(found, columns)


def target_lines() -> list[str]:
    """The targets and the best and worst measurements."""
    heads = ("where and what", "at least", "aim", "worst", "best", "")
    return pages.table(heads, (target.cells() for target in targets.TARGETS))


SECTIONS: dict[str, Callable[[], list[str]]] = {
    "targets": target_lines,
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
    """Write every section into the page, and draw the plots."""
    pages.write(PAGE, {name: make() for name, make in SECTIONS.items()})
    pages.write(PODS_PAGE, {"pods": pods()})
    plots.draw()


if __name__ == "__main__":
    main()
