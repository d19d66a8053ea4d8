"""python -m jaxft.plan CONFIG.yaml: what a run would do, without training: parameters, lengths, waste, FLOPs, memory."""

import sys
from dataclasses import replace
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
    sizes = ", ".join(f"{split} {len(x.examples):,}" for split, x in run.data.items())
    labels = f"; {len(run.task.labels)} labels" if run.task.labels else ""
    teacher = [f"teacher: {run.config.distill.teacher}"] if run.teacher else []
    return [
        f"model: {run.config.model.path}; {'; '.join(run.model.report.lines())}",
        *teacher,
        *run.plan.lines(),
        f"parameters: {trainable:,} trained, {frozen:,} frozen",
        f"examples: {sizes}{labels}",
        f"steps: {run.total_steps:,} of {run.config.train.batch_size} examples ({run.steps_per_epoch:,} an epoch); "
        f"layout {run.config.data.layout}, rows x length {shapes}, padding {1 - first.fill():.1%}",
    ]


def lengths(run: Any) -> list[str]:
    """A histogram of the training examples' lengths, and the padding of every layout."""
    import numpy as np

    from jaxft.setup import train_planner

    examples = run.data["train"].examples
    values = examples.lengths
    edges = [0, 8, 16, 32, 64, 128, 256, 512, max(513, int(values.max()) + 1)]
    counts, _ = np.histogram(values, edges)
    rows = [f"tokens an example: mean {values.mean():.1f}, median {np.median(values):.0f}, longest {values.max()}"]
    for low, high, n in zip(edges, edges[1:], counts, strict=False):
        if n:
            rows.append(f"  {low:>4} to {high - 1:<4} {n:>9,}  {'#' * max(1, round(50 * n / counts.max()))}")
    waste = []
    for layout in ("pack", "bucket", "pad"):
        config = replace(run.config, data=replace(run.config.data, layout=layout))
        planner = train_planner(examples, config, run.mesh)
        waste.append(f"{layout} {1 - planner.plan_epoch(0).fill():.1%}")
    return [*rows, f"padding by layout: {', '.join(waste)}"]


def costs(run: Any) -> list[str]:
    """FLOPs and memory of the compiled train step, for every shape."""
    from functools import partial

    import jax

    from jaxft import sharding
    from jaxft.compiled import abstract_batches
    from jaxft.distill import NAME, TEACHERS
    from jaxft.loop import fresh_state, run_optimizer
    from jaxft.setup import run_loss
    from jaxft.step import train_step

    state, frozen = fresh_state(run)
    if run.teacher:
        frozen = frozen | {TEACHERS: {NAME: run.teacher[1]}}
    step = jax.jit(
        partial(
            train_step,
            loss_fn=run_loss(run),
            optimizer=run_optimizer(run),
            prepare=run.task.prepare,
            regularization=run.regularization,
        ),
        donate_argnums=0,
    )
    place = sharding.batch_sharding(run.mesh)
    rows = []
    for shape, batch in abstract_batches(run.planner, run.data["train"].examples, place).items():
        compiled = step.lower(state, frozen, batch).compile()
        memory: Any = compiled.memory_analysis()
        flops = (compiled.cost_analysis() or {}).get("flops", float("nan"))
        sizes = (memory.argument_size_in_bytes, memory.temp_size_in_bytes)
        arguments, temporary = (f"{size / 2**20:.0f} MiB" for size in sizes)
        rows.append(
            f"train step {shape.rows} x {shape.length}: {flops / 1e9:.1f} GFLOP, arguments {arguments}, "
            f"temporary {temporary} a device"
        )
    return rows


if __name__ == "__main__":
    cli.run_main(main)
