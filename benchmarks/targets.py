"""The project's targets against the result files: the best and worst measurement of each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks import record

Found = Iterator[tuple[str, float]]  # (where, value)


def rows(file: str) -> list[record.Row]:
    """The rows of a file of benchmarks/results."""
    return record.rows(record.RESULTS / file)


@dataclass(frozen=True)
class Target:
    """A row of the table.

    Attributes:
      what: what is measured.
      least, aim: the bounds; upper bounds if `small`.
      unit: the format of a value.
      found: all measurements, (where, value).
      small: whether smaller values are better.
      bounds: whether the values are upper bounds and nothing was measured, so the target cannot be met.
    """

    what: str
    least: float
    aim: float
    unit: str
    found: Callable[[], Found]
    small: bool = False
    bounds: bool = False

    def cells(self) -> list[str]:
        """What is measured, at least, aim, worst, best, verdict."""
        found = sorted(self.found(), key=lambda x: -x[1] if self.small else x[1])
        show = self.unit.format
        bounds = [self.what, show(self.least), show(self.aim)]
        if not found:
            return [*bounds, "", "", "not measured"]
        met = [value <= self.least if self.small else value >= self.least for _, value in found]
        verdict = "met" if all(met) else "short" if not any(met) else f"short in {met.count(False)} of {len(met)}"
        if self.bounds and all(met):
            verdict = "not measured: an upper bound"
        worst, best = (f"{show(value)} ({where})" for where, value in (found[0], found[-1]))
        return [*bounds, worst, best, verdict]


def peers(recipes: tuple[str, ...], side: str, other: str) -> Callable[[], Found]:
    """Ratio of the examples per second of two sides, within rounds, or of the medians if rounds are not recorded."""

    def found() -> Found:
        own = [row for row in rows("peers.json") if not row["options"]]
        rates = {(row["processor"], row["recipe"], row["side"]): row["examples_per_second"]["median"] for row in own}
        for row in own:
            place = (row["processor"], row["recipe"])
            name = row["recipe"].removeprefix("configs/").removesuffix(".yaml")
            if row["side"] == side and name in recipes and (*place, other) in rates:
                paired = row.get(f"times_{other.replace(' ', '_')}")
                ratio = paired["median"] if paired else rates[*place, side] / rates[*place, other]
                yield f"{name}, {row['processor']}", ratio

    return found


def dropout() -> Found:
    """Dropout's share of a MiniLM step."""
    for row in rows("alternatives.json"):
        if "no dropout" in row["rows"]:
            yield row["processor"], 1 - row["rows"]["no dropout"]["ratio"]["median"]


def first_step(kind: str) -> Callable[[], Found]:
    """Seconds to the first step with a cold or warm cache."""
    return lambda: ((row["processor"], row[f"{kind}_seconds"]["median"]) for row in rows("first_step.json"))


def gpu_step(case: str, what: str) -> Callable[[], Found]:
    """A median of a step on a GPU."""
    return lambda: ((row["device"], row[what]["median"]) for row in rows("gpu_steps.json") if row["name"] == case)


def gpu_loop() -> Found:
    """Ratio of the examples per second of jaxft and torch.compile."""
    for row in rows("gpu.json"):
        if row["side"] == "jaxft" and "times_compile" in row:
            yield f"{row['size']}, {row['device']}", row["times_compile"]["median"]


def compiled(*cases: str) -> Callable[[], Found]:
    """Upper bounds of the share of the peak."""
    return lambda: ((row["name"], row["predicted_share_of_peak"]) for row in rows("aot.json") if row["name"] in cases)


SHORT, ALL = ("banking77", "sst2"), ("banking77", "sst2", "imdb")
TARGETS = (
    Target("CPU, whole loop, short texts: times Trainer, float32", 2, 3, "{:.2f}", peers(SHORT, "jaxft", "trainer")),
    Target("CPU, the same, bfloat16 on both", 2, 3, "{:.2f}", peers(SHORT, "jaxft bfloat16", "trainer bfloat16")),
    Target("CPU, full rows of 128: times Trainer, float32", 1, 1.5, "{:.2f}", peers(("imdb",), "jaxft", "trainer")),
    Target("CPU, the same, bfloat16 on both", 1, 1.5, "{:.2f}", peers(("imdb",), "jaxft bfloat16", "trainer bfloat16")),
    Target("CPU: times Hugging Face's Flax script, float32", 4, 8, "{:.2f}", peers(ALL, "jaxft", "flax")),
    Target("CPU: dropout's share of a step", 0.10, 0.04, "{:.0%}", dropout, small=True),
    Target("CPU, quickstart: command to first step, cold cache", 30, 15, "{:.1f} s", first_step("cold"), small=True),
    Target("CPU, quickstart: the same, warm cache", 12, 6, "{:.1f} s", first_step("warm"), small=True),
    Target(
        "H200, BERT base, full rows of 128, bfloat16: of 989 TFLOP/s",
        0.4,
        0.5,
        "{:.0%}",
        gpu_step("base-full", "share_of_peak"),
    ),
    Target(
        "H200, BERT large, packed rows of 512: real tokens/s",
        214_000,
        260_000,
        "{:,.0f}",
        gpu_step("large-packed-512", "tokens_per_second"),
    ),
    Target("H200, GLUE's lengths, whole loop: times PyTorch with torch.compile", 2, 3, "{:.2f}", gpu_loop),
    Target(
        "TPU: share of the peak that the data sheet allows the compiled program",
        0.5,
        0.5,
        "{:.0%}",
        compiled("v5e-8-base", "v5e-8-large", "v5e-256-large"),
        bounds=True,
    ),
)
