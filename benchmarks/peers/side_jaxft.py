"""jaxft's training loop on a recipe, window by window.

python -m benchmarks.peers.side_jaxft STEPS WARM RECIPE [options]
"""

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
from jaxft.training.loop import Loop


def train(run: Run, steps: int, warm: int, compiling: Callable[[], float]) -> None:
    """Train windows of `steps` steps after `warm` steps; `compiling` gives the seconds of compilation so far."""
    device = jax.devices()[0]
    peak = (lambda: device.memory_stats()["peak_bytes_in_use"]) if device.memory_stats() else None  # CPUs have no statistics
    batches = BatchFeed.batches

    def counted(self: BatchFeed, start: int) -> Iterator[Any]:
        for numbers, epoch, batch in batches(self, start):
            plan = epoch.batches
            windows.tick()
            for step in numbers:
                in_epoch = step % run.steps_per_epoch
                examples, shape = plan.examples(in_epoch), plan.shape(in_epoch)
                tokens = int(plan.sampler.lengths[examples].sum())
                windows.count(examples=len(examples), tokens=tokens, positions=shape.rows * shape.length)
            yield numbers, epoch, batch

    BatchFeed.batches = counted  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Loop(run, Path(folder))
        windows = Windows(steps, warm, lambda: jax.block_until_ready(trainer.state), peak, compiling)
        try:
            trainer.train()
        except Done:
            trainer.close()


def main() -> None:
    steps, warm, *argv = sys.argv[1:]
    config = cli.load(argv)
    backend.start(compile_cache=config.runtime.compile_cache, distributed="off")
    compiling = listen()
    train(make_run(config), int(steps), int(warm), compiling)


if __name__ == "__main__":
    main()
