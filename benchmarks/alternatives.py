"""Whole train steps on one device: the choices behind jaxft's defaults, alternatives in turn (A B A B).

python -m benchmarks.alternatives [--rounds 7]
"""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from benchmarks.parts import Part, run
from benchmarks.step import CPU, Step
from jaxft import optim
from jaxft.compiled import lower_train
from jaxft.setup import Run
from jaxft.step import train_step

MMAP_THRESHOLD, TRIM_THRESHOLD, MMAP_MAX = -3, -1, -4
MANY = 8  # steps in one call


def parts() -> Iterator[Part]:
    """A step of MiniLM with what a default decides taken the other way, and the smallest model's."""
    case = CPU["minilm-full"]
    whole = case.run()
    looped = replace(whole, model=replace(whole.model, policy=replace(whole.model.policy, unroll=1)))
    all_words = replace(whole.config, runtime=replace(whole.config.runtime, skip_unused_words=False))
    plain_norm = optim.make_optimizer(whole.config.optim, whole.plan, whole.total_steps, blocked_norm=False)
    yield (
        "a step of MiniLM, 8 rows of 128",
        {
            "jaxft": timer(Step(whole)),
            "no dropout": timer(Step(replace(case, dropout=False).run())),
            "dropout of attention by keys": timer(Step(replace(case, keys=True).run())),
            "layers in a loop": timer(Step(looped)),
            "all words trained": timer(Step(replace(whole, config=all_words))),
            "XLA's own global norm": timer(Step(whole, lower=lambda loss, _, *rest: lower_train(loss, plain_norm, *rest))),
            "memory given back after a step": timer(Step(whole), keep=False),
            "bfloat16": timer(Step(replace(case, dtype="bfloat16").run())),
            f"{MANY} steps in one call": together(whole),
        },
        "jaxft",
    )
    small = CPU["tiny"].run()
    yield (
        "a step of a tiny model, 4 rows of 32",
        {"jaxft": timer(Step(small)), f"{MANY} steps in one call": together(small)},
        "jaxft",
    )


def timer(step: Step, keep: bool = True) -> Callable[[], float]:
    """Seconds a step; the first after another alternative, which may fault memory in, is not counted."""

    def measure() -> float:
        keep_memory(keep)
        step.measure(1)
        return step.measure(3)

    return measure


def together(run: Run) -> Callable[[], float]:
    """Seconds a step, of several that are one program."""
    measure = timer(Step(run, lower=lower_many))
    return lambda: measure() / MANY


def lower_many(loss: Any, optimizer: Any, *arguments: Any) -> Any:
    """`lower_train` of several steps on the same batch."""
    step = partial(train_step, loss_fn=loss, optimizer=optimizer)

    def steps(state: Any, frozen: Any, batch: Any) -> Any:
        return jax.lax.scan(lambda state, _: step(state, frozen, batch), state, None, length=MANY)

    return jax.jit(steps, donate_argnums=0).lower(*arguments)


def keep_memory(keep: bool) -> None:
    """glibc as jaxft sets it, or as it is by default once a process has freed a large block."""
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    mallopt(MMAP_MAX, 0 if keep else 65536)
    mallopt(TRIM_THRESHOLD, 2**31 - 1 if keep else 2**26)
    if not keep:
        mallopt(MMAP_THRESHOLD, 2**25)


def main(argv: list[str]) -> None:
    """Run the command."""
    run(argv, __doc__, parts, "alternatives.json")


if __name__ == "__main__":
    from jaxft import cli

    cli.run_main(main)
