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
from jaxft.run.setup import make_run
from jaxft.training.loop import Trainer


def device_peak() -> Callable[[], int] | None:
    """Reads the most bytes that the first device has held, where it says so (CPUs do not)."""
    device = jax.devices()[0]
    return (lambda: device.memory_stats()["peak_bytes_in_use"]) if device.memory_stats() else None


class Watched(Trainer):
    """Counts the steps that its loop takes."""

    windows: Windows

    def _batches(self, start: int) -> Iterator[Any]:
        for steps, plan, batch in super()._batches(start):
            self.windows.tick()
            for step in steps:
                in_epoch = step % self.run.steps_per_epoch
                examples, shape = plan.examples(in_epoch), plan.shape(in_epoch)
                tokens = int(plan.sampler.lengths[examples].sum())
                self.windows.count(examples=len(examples), tokens=tokens, positions=shape.rows * shape.length)
            yield steps, plan, batch


def main() -> None:
    steps, warm, *argv = sys.argv[1:]
    config = cli.load(argv)
    backend.start(compile_cache=config.runtime.compile_cache, distributed="off")
    compiling = listen()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Watched(make_run(config), Path(folder))
        trainer.windows = Windows(
            int(steps), int(warm), lambda: jax.block_until_ready(trainer.state), device_peak(), compiling
        )
        try:
            trainer.train()
        except Done:
            trainer.close()


if __name__ == "__main__":
    main()
