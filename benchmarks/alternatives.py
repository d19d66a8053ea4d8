"""One train step of a recipe on one CPU device: the choices behind jaxft's defaults, alternatives in turn (A B A B).

    python -m benchmarks.alternatives configs/banking77.yaml --repeats 8

Prints and writes (--output) a JSON with the median and quartiles of each alternative and its ratio to the default.
"""

import argparse
import ctypes
import dataclasses
import time
from typing import Any

import numpy as np

from benchmarks import record
from jaxft import cli, runtime

MMAP_THRESHOLD, TRIM_THRESHOLD, MMAP_MAX = -3, -1, -4


def keep_memory(keep: bool) -> None:
    """glibc as jaxft sets it, or as it is by default once a process has freed a large block."""
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    mallopt(MMAP_MAX, 0 if keep else 65536)
    mallopt(TRIM_THRESHOLD, 2**31 - 1 if keep else 2**26)
    if not keep:
        mallopt(MMAP_THRESHOLD, 2**25)


class Alternative:
    """A compiled step with a state of its own."""

    def __init__(self, config: Any, *, keep: bool = True, blocked: bool = True) -> None:
        from jaxft import optim, sharding
        from jaxft.compiled import abstract_batch, compile_train
        from jaxft.data.feed import device_batch
        from jaxft.loop import fresh_state
        from jaxft.setup import make_run, run_loss

        run = make_run(config)
        self.keep = keep
        self.state, self.frozen = fresh_state(run)
        shape = run.planner.shapes[len(run.planner.shapes) // 2]
        plan = run.planner.plan_epoch(0)
        number = int(np.flatnonzero([plan.shape(i) == shape for i in range(run.steps_per_epoch)])[0])
        examples, place = run.data["train"].examples, sharding.batch_sharding(run.mesh)
        self.batch = device_batch(plan, examples, number, place)
        optimizer = optim.make_optimizer(config.optim, run.plan, run.total_steps, blocked_norm=blocked)
        abstract = {shape: abstract_batch(run.planner, shape, examples, place)}
        start = time.perf_counter()
        compiled = compile_train(run_loss(run), optimizer, self.state, self.frozen, abstract, lambda _: None)
        self.compile_seconds = time.perf_counter() - start
        self.step = compiled[shape]
        self.seconds: list[float] = []

    def measure(self, steps: int = 3) -> None:
        """Time a few steps; the first, which may fault memory in, is not counted."""
        keep_memory(self.keep)
        for i in range(steps + 1):
            if i == 1:
                start = time.perf_counter()
            self.state, metrics = self.step(self.state, self.frozen, self.batch)
            metrics["loss"].block_until_ready()
        self.seconds.append((time.perf_counter() - start) / steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--output", default="benchmarks/results/alternatives.json")
    args = parser.parse_args()
    config = cli.load([args.config, "--mesh.data", "1"])
    chosen = runtime.start(compile_cache=False)

    def with_unroll(layers: int) -> Any:
        return dataclasses.replace(config, runtime=dataclasses.replace(config.runtime, unroll=layers))

    makers = {
        "default": lambda: Alternative(config),
        "malloc gives memory back": lambda: Alternative(config, keep=False),
        "plain norm": lambda: Alternative(config, blocked=False),
        "scan, not unrolled": lambda: Alternative(with_unroll(1)),
    }
    alternatives = {name: make() for name, make in makers.items()}
    for _ in range(args.repeats):
        for alternative in alternatives.values():
            alternative.measure()
    base = np.array(alternatives["default"].seconds)
    rows = {}
    for name, alternative in alternatives.items():
        seconds = np.array(alternative.seconds)
        low, median, high = np.percentile(seconds, [25, 50, 75])
        rows[name] = {
            "seconds": round(median, 4),
            "quartiles": [round(low, 4), round(high, 4)],
            "ratio_to_default": round(float(np.median(seconds / base)), 3),
            "compile_seconds": round(alternative.compile_seconds, 1),
        }
        print(name, rows[name])
    record.write(args.output, record.machine() | {"runtime": chosen.line(), "config": args.config, "rows": rows})


if __name__ == "__main__":
    main()
