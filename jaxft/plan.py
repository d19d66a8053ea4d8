"""python -m jaxft.plan CONFIG.yaml: what a run would do, without training: parameters, lengths, waste, FLOPs, memory."""

import sys
from typing import Any

from jaxft import cli, runtime


def main(argv: list[str]) -> None:
    """Print the plan of a run."""
    config = cli.load(argv, prog="python -m jaxft.plan")
    chosen = runtime.start(distributed="off", compile_cache=config.runtime.compile_cache)
    from jaxft.setup import make_run

    run = make_run(config)
    print(chosen.line(), file=sys.stderr)
    for line in [*summary(run), "", *lengths(run), "", *costs(run)]:
        print(line)


def summary(run: Any) -> list[str]:
    """The start-up summary: weights, parameter plan, shapes, steps."""
    from jaxft import tree

    trainable, frozen = (tree.count(part) for part in run.plan.split(run.model.abstract()))
    first = run.planner.plan_epoch(0)
    shapes = ", ".join(f"{s.rows} x {s.length}" for s in run.planner.shapes)
    sizes = ", ".join(f"{split} {len(x):,}" for split, x in run.data.items())
    teacher = [f"teacher: {run.config.distill.teacher}"] if run.teacher else []
    return [
        f"model: {run.config.model.path}; {'; '.join(run.model.report.lines())}",
        *teacher,
        *run.plan.lines(),
        f"parameters: {trainable:,} trained, {frozen:,} frozen",
        f"examples: {sizes}; {len(run.task.labels)} labels",
        f"steps: {run.total_steps:,} of {run.config.train.batch_size} examples ({run.steps_per_epoch:,} an epoch); "
        f"layout {run.config.data.layout}, rows x length {shapes}, padding {1 - first.fill():.1%}",
    ]


def lengths(run: Any) -> list[str]:
    """A histogram of the training examples' lengths, and the padding of every layout."""
    import numpy as np

    from jaxft import sharding
    from jaxft.data.batches import make_planner

    values = run.data["train"].lengths
    edges = [0, 8, 16, 32, 64, 128, 256, 512, max(513, int(values.max()) + 1)]
    counts, _ = np.histogram(values, edges)
    rows = [f"tokens an example: mean {values.mean():.1f}, median {np.median(values):.0f}, longest {values.max()}"]
    for low, high, n in zip(edges, edges[1:], counts, strict=False):
        if n:
            sizes = (memory.argument_size_in_bytes, memory.temp_size_in_bytes)
        arguments, temporary = (f"{size / 2**20:.0f} MiB" for size in sizes)
        rows.append(
            f"train step {shape.rows} x {shape.length}: {flops / 1e9:.1f} GFLOP, arguments {arguments}, "
            f"temporary {temporary} a device"
        )
    return rows


if __name__ == "__main__":
    cli.run_main(main)
