"""Prediction in chunks of rows, so that memory does not grow with their number and each chunk can be written at once."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax

from jaxft.config import Config
from jaxft.core.progress import Progress, silent
from jaxft.core.signals import nothing
from jaxft.core.tree import Params
from jaxft.data.batching.batch_sampler import BatchSampler, EpochBatches, Shape
from jaxft.data.batching.collect import Summary
from jaxft.data.batching.prefetch import prefetch
from jaxft.data.reading.row_numbers import select_rows
from jaxft.data.reading.spool import unload
from jaxft.data.tokens.encode import Examples
from jaxft.evaluation.evaluator import run_batches
from jaxft.models.model import Model
from jaxft.parallel import sharding
from jaxft.run.setup import eval_sampler
from jaxft.step.compilation import abstract_batch, compile_lowered, size_of
from jaxft.tasks.task import Batch, Split

ROWS_PER_CHUNK = 16_384
WASTE, STEPS = 1.25, 8  # batches for compiled programs may cost this factor, or this many steps, more than new programs
SMALLER = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85)  # shares of the batch size that are tried to fit into compiled shapes


def in_chunks(
    rows: Any, encode: Callable[[Any], Split], forward: "Forward", *, whole: bool = False
) -> Iterator[tuple[Split, Summary]]:
    """Yield (a chunk of rows, which `encode` tokenised, the outputs of `forward` for it); `whole` makes all rows one chunk.

    The next chunk is tokenised ahead in a thread.
    """
    size = len(rows) if whole else ROWS_PER_CHUNK

    def chunk(start: int) -> Split:
        if size >= len(rows):
            return encode(rows)
        try:
            with silent():
                return encode(select_rows(rows, range(start, min(start + size, len(rows)))))
        finally:
            unload()

    progress = Progress("predicting", len(rows))
    done = count = 0

    def report(share: float) -> None:
        progress.at(done + int(share * count))

    for data in prefetch(iter(range(0, len(rows), size)), chunk, 1):
        count = len(data.rows)
        yield data, forward(data.examples, report)
        done += count


class Forward:
    """A forward pass over chunks of examples; programs compiled for one chunk are reused for the next ones.

    `forward` maps parameters on the mesh and a batch [1, R, ...] of one micro-batch to what to read back.
    """

    def __init__(
        self, forward: Callable[[Params, Batch], Summary], params: Params, mesh: jax.sharding.Mesh, config: Config
    ) -> None:
        self._forward, self._params, self._mesh, self._config = forward, params, mesh, config
        self._known_shapes: list[tuple[Shape, ...]] = []
        self._programs: dict[Any, Any] = {}

    def __call__(
        self,
        examples: Examples,
        report: Callable[[float], None] = lambda _: None,
        summary: Summary | None = None,
        check: Callable[[], None] = nothing,
    ) -> Summary:
        """The outputs for every example, added to `summary`.

        `report` is called with the share of steps that are done, and `check` after each of them.
        """
        batches = self._batches(examples)
        programs = {shape: self._program(batches.sampler, shape, examples) for shape in batches.shapes}
        steps = itertools.count()

        def run(shape: Shape, batch: Batch) -> Summary:
            report(next(steps) / batches.sampler.steps_per_epoch)
            return programs[shape](self._params, batch)

        return run_batches(batches, examples, self._mesh, run, summary, check)

    def _batches(self, examples: Examples) -> EpochBatches:
        """Batches in shapes that are already compiled, unless new shapes cost far less."""
        own = eval_sampler(examples, self._config, self._mesh)
        best = own.epoch_batches(0)
        for shapes in self._known_shapes:
            limit = max(WASTE * _positions(best), _positions(best) + STEPS * _size(shapes[-1]))
            for share in SMALLER:
                batches = _with_given_shapes(replace(own, shapes=shapes, batch_size=max(1, int(own.batch_size * share))))
                if batches and _positions(batches) <= limit:
                    return batches
        self._known_shapes.append(best.shapes)
        return best

    def _program(self, sampler: BatchSampler, shape: Shape, examples: Examples) -> Any:
        batch = abstract_batch(sampler, shape, examples, sharding.batch_sharding(self._mesh))
        key = tuple((name, x.shape, x.dtype) for name, x in sorted(batch.items()))
        if key not in self._programs:
            self._programs[key] = compile_forward(self._forward, self._params, batch, self._mesh, shape)
        return self._programs[key]


def compile_forward(
    forward: Callable[[Params, Batch], Summary], params: Params, batch: Any, mesh: jax.sharding.Mesh, shape: Shape
) -> Any:
    """Compile `forward` for the parameters and a batch (shapes and types) of a shape; every process can read its outputs."""
    lowered = sharding.lower(forward, mesh, params, batch, out_shardings=sharding.replicated(mesh))
    return compile_lowered(lowered, f"forward pass {size_of(shape)}")


def predict_step(params: Params, batch: Batch, *, model: Model, summarise: Any, prepare: Any) -> Summary:
    """What `summarise(outputs, batch)` selects for a batch of one micro-batch [1, R, ...]; `prepare` is `Task.prepare`."""
    micro = {name: x[0] for name, x in prepare(batch, None).items()}
    return summarise(model.apply(params, micro), micro)


def _with_given_shapes(sampler: BatchSampler) -> EpochBatches | None:
    """The sampler's batches if they need no other shapes than its own; otherwise None."""
    if sampler.lengths.max() > sampler.shapes[-1].length or (
        sampler.layout != "pack" and sampler.batch_size > sampler.shapes[0].rows
    ):
        return None
    batches = sampler.epoch_batches(0)
    return batches if batches.shapes == sampler.shapes else None


def _size(shape: Shape) -> int:
    return shape.rows * shape.length


def _positions(batches: EpochBatches) -> int:
    return sum(_size(batches.shape(step)) for step in range(batches.sampler.steps_per_epoch))
