"""Whole train steps on one device: jaxft's defaults, measured in turn with their alternatives.

python -m benchmarks.alternatives [--rounds 7]
"""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

from benchmarks.command import Part, compare_parts
from benchmarks.step import CPU, Case, Step
from jaxft import optim
from jaxft.config import cli
from jaxft.core import backend, host_memory
from jaxft.step.compilation import lower_train
from jaxft.step.multi_step import STEPS_PER_CALL

MMAP_THRESHOLD, TRIM_THRESHOLD, MMAP_MAX = -3, -1, -4


def parts() -> Iterator[Part]:
    """Steps of MiniLM and of the smallest model in which one default is changed."""
    case = CPU["minilm-full"]
    whole = case.run()
    looped = replace(whole, model=replace(whole.model, policy=replace(whole.model.policy, unroll=1)))
    all_words = replace(whole.config, runtime=replace(whole.config.runtime, skip_unused_words=False))
    plain_norm = optim.make_optimizer(whole.config.optim, whole.plan, whole.total_steps, blocked_norm=False)

    def lower_plain_norm(loss: Any, _: optim.Optimizer, *rest: Any, **several: Any) -> Any:
        return lower_train(loss, plain_norm, *rest, **several)

    yield (
        "a step of MiniLM, 8 rows of 128",
        {
            "jaxft": timer(Step(whole)),
            "no dropout": timer(Step(replace(case, dropout=False).run())),
            "dropout of attention by keys": timer(Step(replace(case, keys=True).run())),
            "layers in a loop": timer(Step(looped)),
            "all words trained": timer(Step(replace(whole, config=all_words))),
            "XLA's own global norm": timer(Step(whole, lower=lower_plain_norm)),
            "memory given back after a step": timer(Step(whole), keep=False),
            "bfloat16": timer(Step(replace(case, dtype="bfloat16").run())),
            "bfloat16, transposed and attention's products in float32": timer(widened(replace(case, dtype="bfloat16"))),
            f"{STEPS_PER_CALL} steps in one call": timer(Step(whole, together=STEPS_PER_CALL)),
        },
        "jaxft",
    )
    small = CPU["tiny"].run()
    yield (
        "a step of a tiny model, 4 rows of 32",
        {"jaxft": timer(Step(small)), f"{STEPS_PER_CALL} steps in one call": timer(Step(small, together=STEPS_PER_CALL))},
        "jaxft",
    )

    yield from large_batch()
    head = CPU["minilm-head-kept"].run()
    yield (
        "a step of a head on kept layers, 8 rows of 128",
        {"jaxft": timer(Step(head, together=STEPS_PER_CALL)), "a call a step": timer(Step(head))},
        "jaxft",
    )


def large_batch() -> Iterator[Part]:
    """A large batch, whose activations do not fit into the caches."""
    case = CPU["minilm-large-batch"]
    yield (
        "a step of MiniLM, 32 rows of 128",
        {
            "jaxft": timer(Step(case.run())),
            "in 2 micro-batches": timer(Step(replace(case, micro_batches=2).run())),
            "in 4 micro-batches": timer(Step(replace(case, micro_batches=4).run())),
            "bfloat16": timer(Step(replace(case, dtype="bfloat16").run())),
            "bfloat16 in 4 micro-batches": timer(Step(replace(case, dtype="bfloat16", micro_batches=4).run())),
        },
        "jaxft",
    )


def widened(case: Case) -> Step:
    """The program for processors without bfloat16 units."""
    with mock.patch.object(backend, "multiplies_bfloat16", return_value=False):
        return Step(case.run())


def timer(step: Step, keep: bool = True) -> Callable[[], float]:
    """Seconds per step, without the first step after another alternative, which may fault in memory."""

    def measure() -> float:
        keep_memory(keep)
        step.measure(1)
        return step.measure(3)

    return measure


def keep_memory(keep: bool) -> None:
    """Configure glibc as jaxft does, or as it is by default after a process has freed a large block."""
    if keep:
        host_memory.keep_freed_memory()
        return
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    mallopt(MMAP_MAX, 65536)
    mallopt(TRIM_THRESHOLD, 2**26)
    mallopt(MMAP_THRESHOLD, 2**25)


def main(argv: list[str]) -> None:
    compare_parts(argv, __doc__, parts, "alternatives.json")


if __name__ == "__main__":
    cli.run_main(main)
