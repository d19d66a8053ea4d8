"""jaxft plan CONFIG.yaml [--plot FILE] [--topology NAME]: show what a run would do, without training.

It prints parameters, learning rates, lengths, padding, FLOPs and memory. `--plot` draws the learning rates into a png, svg
or pdf file; `--topology` compiles for accelerators that are not attached, such as v5e:2x4."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from jaxft.config import cli, help
from jaxft.config.limits import shown
from jaxft.config.used_by import UsedBy
from jaxft.core import backend
from jaxft.core.errors import UserError, some
from jaxft.core.output import check_output
from jaxft.core.progress import announced

COMMAND = help.Command(
    "jaxft plan",
    "CONFIG.yaml [--plot FILE] [--topology NAME]",
    own={
        "--plot FILE": "Plot the learning rates to a png, svg or pdf file.",
        "--topology NAME": "Compile for accelerators that are not attached, such as v5e:2x4.",
    },
    uses=UsedBy.PLAN,
    note="The other options of jaxft train are accepted and checked, but do not change the plan.",
)


def main(argv: list[str]) -> None:
    """Print the parameter plan of a run and what the run would cost."""
    cli.show_help(argv, COMMAND)
    parser = cli.Parser(prog=COMMAND.name, add_help=False)
    for option in COMMAND.own:
        parser.add_argument(option.split()[0], nargs="?", const="")
    options, rest = parser.parse_beside_config(argv)
    plot, target = options.plot, options.topology
    if plot is not None and not plot.endswith((".png", ".svg", ".pdf")):
        raise UserError(f'--plot is "{plot}": give a file that ends in .png, .svg or .pdf')
    if plot:
        check_output(plot, "--plot")
    config = cli.load(rest, COMMAND)
    cache = config.runtime.compile_cache and target is None  # programs for other chips cannot be loaded here
    # Without a TPU, libtpu can compile, but as JAX's platform it would wait for a TPU.
    chosen = backend.start(distributed="off", compile_cache=cache, platforms=None if target is None else "cpu")
    from jaxft.preflight import costs, learning_rates, topology
    from jaxft.run.setup import make_run
    from jaxft.teacher_cache.choice import choose
    from jaxft.teacher_cache.fill import check_directory
    from jaxft.training import frozen_features

    if plot:
        learning_rates.require_matplotlib()  # before reading the data, which takes long
    run = make_run(config, None if target is None else topology.devices(target))
    if target is None:  # outputs for other devices than these are not there yet
        check_directory(run, choose(run).stored)
    print(chosen.line(), file=sys.stderr)
    about = summary(run, optimizer=[costs.mib(size) if size else "-" for size in costs.optimizer_memory(run)])
    print(*about, "", *learning_rates.lines(run), "", *lengths(run), "", sep="\n")
    with announced("compiling the steps, to measure their memory", partial(print, file=sys.stderr, flush=True)):
        steps = costs.step_costs(run)
    print(*costs.lines(steps), sep="\n")
    if frozen := frozen_features.frozen_layers(run):
        layers = f"lowest {frozen} layers never change" if frozen > 1 else "lowest layer never changes"
        print(f"the {layers}: a run of more than one epoch computes that part once, and steps cost less")
    if target is not None:
        shapes_and_costs = [(shape, cost) for shape, found in steps.items() for cost in found]
        print("", *topology.lines(target, shapes_and_costs), sep="\n")
    if plot:
        learning_rates.plot(run, plot)
        print(f"wrote the learning rates to {plot}", file=sys.stderr)


def summary(run: Any, **more: Sequence[str]) -> list[str]:
    """The start-up summary: weights, parameter plan (with additional columns `more`), batch shapes, steps."""
    from jaxft.run.loss import run_matches
    from jaxft.teacher_cache.choice import choose

    rows = run.plan.rows
    trainable, frozen = (sum(row.parameters for row in rows if row.setting.trainable is x) for x in (True, False))
    first = run.sampler.epoch_batches(0)
    shapes = ", ".join(f"{s.rows} x {s.length}" for s in run.sampler.shapes)
    sizes = ", ".join(f"{split} {len(x.examples):,}" for split, x in run.data.items())
    labels = _labels(run.task.labels)
    used, words = run.used_words, run.model.encoder.config.vocab_size
    others = f"the other words do not occur in {'any epoch' if run.config.augment.steps else 'the training data'}"
    unused = [] if used is None else [f"words: {len(used):,} of {words:,} rows are trained; {others}"]
    teacher = [f"teacher: {teacher.name}" for teacher in run.teachers]
    teacher += [matches.line()] if (matches := run_matches(run)) else []
    teacher += [choose(run).line] if teacher else []
    return [
        f"model: {run.config.model.path}; {'; '.join(run.model.report.lines())}",
        *teacher,
        *run.notes,
        *run.plan.lines(**more),
        f"parameters: {trainable:,} trained, {frozen:,} frozen",
        *unused,
        f"examples: {sizes}{labels}",
        *_tasks(run),
        *_changes(run),
        f"steps: {run.total_steps:,} of {run.config.train.batch_size} examples ({run.steps_per_epoch:,} per epoch); "
        f"layout {run.config.data.layout}, rows x length {shapes}, padding {1 - first.fill():.1%}",
    ]


def _labels(names: Sequence[str] | None) -> str:
    """The end of a line: the number of labels and the first names."""
    return f"; {len(names)} labels: {some([f'{i} {name}' for i, name in enumerate(names)])}" if names else ""


def _tasks(run: Any) -> list[str]:
    """A line for each of several tasks: its examples, and how many the first epoch has in each step, or of steps."""
    if not run.config.tasks:
        return []
    own, orders, weights = run.config.sampling, run.sampler.orders, run.task.weights
    counts = orders.counts(0, expected=True)
    what = f"of {orders.batch_size} in each step" if own.per_step == "mixed" else f"of {orders.steps} steps of an epoch"
    varies = orders.shares.vary or (counts != orders.counts(1, expected=True)).any()  # round_robin may
    about = ", at first" if varies else ""
    lines = [f"sampling: {own.sampler}, {own.per_step}"]
    for (name, task), count in zip(run.task.tasks.items(), counts, strict=True):
        parts = ((split, x.parts.get(name)) for split, x in run.data.items())
        sizes = ", ".join(f"{split} {len(x.examples):,}" for split, x in parts if x is not None)
        weight = f"; weight {weights[name]:g}" if weights[name] != 1 else ""
        lines.append(f"task {name}: {task.kind}; {sizes}{_labels(task.labels)}; {count:,} {what}{about}{weight}")
    return lines


def _changes(run: Any) -> list[str]:
    """Lines on what training changes in its examples, and on texts without labels."""
    augment, unlabelled = run.config.augment, run.config.unlabelled
    share, lines = f"{augment.share:.0%} of the", []
    if augment.steps:
        steps = ", ".join(f"{x.step} {x.rate:g}" for x in augment.steps)
        which = "labelled examples" if unlabelled.data else "examples"
        one = "one of " if augment.apply == "one" else ""
        lines.append(f"augmentation: {one}{steps}; {share} {which}, anew in every epoch")
    rates = {name: getattr(augment, name) for name in ("cutoff_tokens", "cutoff_span", "cutoff_features")}
    if cut := ", ".join(f"{name} {rate:g}" for name, rate in rates.items() if rate):
        lines.append(f"cut-off: {cut}; {share} examples, anew in every step")
    if augment.mixup:
        lines.append(f"mixup: alpha {augment.mixup:g}, pairs of all examples, anew in every epoch")
    if own := run.config.adversarial.options():
        chosen = ", ".join(f"{name} {'without limit' if value is None else shown(value)}" for name, value in own.items())
        lines.append(f"adversarial training: {run.config.adversarial.method}, {chosen}")
    if (domains := run.config.domains).used:
        size = run.config.train.batch_size
        beside = f"{domains.per_step or size} target texts beside {size} examples in each step; " if domains.texts else ""
        rise = f"lambda rises to {domains.weight:g} with gamma {domains.gamma:g}"
        lines.append(f"domain-adversarial training: {beside}{rise}")
    if run.config.data.weight:
        lines.append(f'examples have the weights of the column "{run.config.data.weight}"')
    if unlabelled.data:
        lines.append(
            f"texts without labels: {unlabelled.ratio} per labelled example, each with an augmented version; weight of the "
            f"consistency loss {unlabelled.weight:g}"
        )
    return lines


def lengths(run: Any) -> list[str]:
    """A histogram of the lengths of the training examples, and the padding in each layout."""
    import numpy as np

    from jaxft.run.setup import train_sampler

    examples = run.data["train"].examples
    values = examples.lengths
    edges = [0, 8, 16, 32, 64, 128, 256, 512, max(513, int(values.max()) + 1)]
    counts, _ = np.histogram(values, edges)
    rows = [f"tokens per example: mean {values.mean():.1f}, median {np.median(values):.0f}, longest {values.max()}"]
    for low, high, n in zip(edges, edges[1:], counts, strict=False):
        if n:
            rows.append(f"  {low:>4} to {high - 1:<4} {n:>9,}  {'#' * max(1, round(50 * n / counts.max()))}")
    waste = []
    for layout in ("pack", "bucket", "pad"):
        config = replace(run.config, data=replace(run.config.data, layout=layout))
        sampler = train_sampler(examples, config, run.mesh, orders=run.sampler.orders)
        waste.append(f"{layout} {1 - sampler.epoch_batches(0).fill():.1%}")
    return [*rows, f"padding by layout: {', '.join(waste)}"]


if __name__ == "__main__":
    cli.run_main(main)
