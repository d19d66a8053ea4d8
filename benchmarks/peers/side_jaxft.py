"""jaxft's training loop on a recipe, window by window: python -m benchmarks.peers.side_jaxft STEPS WARM RECIPE [options]."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.peers.compiling import listen
from benchmarks.peers.windows import Done, Windows
from jaxft.config import cli
from jaxft.core import backend
from jaxft.run.setup import Run, make_run
from jaxft.training.batch_feed import BatchFeed
from jaxft.training.loop import Trainer


def device_peak() -> Callable[[], int] | None:
    """Reads the most bytes that the first device has held, where it says so (CPUs do not)."""
    device = jax.devices()[0]
    return (lambda: device.memory_stats()["peak_bytes_in_use"]) if device.memory_stats() else None


def watch(windows: Windows, run: Run) -> None:
    """Count the steps that the loop takes."""
    batches = BatchFeed.batches

    def counted(self: BatchFeed, start: int) -> Iterator[Any]:
        for steps, plan, batch in batches(self, start):
            windows.tick()
            for step in steps:
                in_epoch = step % run.steps_per_epoch
                examples, shape = plan.examples(in_epoch), plan.shape(in_epoch)
                tokens = int(plan.sampler.lengths[examples].sum())
                windows.count(examples=len(examples), tokens=tokens, positions=shape.rows * shape.length)
            yield steps, plan, batch

    BatchFeed.batches = counted  # type: ignore[method-assign]


def main() -> None:
    steps, warm, *argv = sys.argv[1:]
    config = cli.load(argv)
    backend.start(compile_cache=config.runtime.compile_cache, distributed="off")
    compiling = listen()
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(config)
        trainer = Trainer(run, Path(folder))
        windows = Windows(int(steps), int(warm), lambda: jax.block_until_ready(trainer.state), device_peak(), compiling)
        watch(windows, run)
        try:
            trainer.train()
        except Done:
            trainer.close()


if __name__ == "__main__":
    main()
