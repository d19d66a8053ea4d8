"""Many rows predicted part by part, so that memory does not grow with their number, and each part can be written."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from jaxft.config import Config
from jaxft.core.progress import Progress, silent
from jaxft.core.tree import Params
from jaxft.data.batching.batch_sampler import BatchSampler, EpochBatches, Shape
from jaxft.data.batching.collect import Collected
from jaxft.data.batching.prefetch import prefetch
from jaxft.data.reading.row_numbers import select_rows
from jaxft.data.reading.spool import unload
from jaxft.data.tokens.encode import Examples
from jaxft.evaluation.evaluator import run_batches
from jaxft.models.model import Model
from jaxft.parallel import sharding
from jaxft.run.setup import eval_sampler
from jaxft.step.compilation import abstract_batch, finished, size_of
from jaxft.tasks.task import Batch, Outputs, Split, Summary

ROWS_PER_CHUNK = 16_384  # of a part
WASTE, STEPS = 1.25, 8  # a plan for existing programs may cost this factor, or this many steps, more than new programs would
SMALLER = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85)  # shares of a step's examples that are tried to make them fit


def in_chunks(
    rows: Any, encode: Callable[[Any], Split], forward: "Forward", *, whole: bool = False
) -> Iterator[tuple[Split, Collected]]:
    """(some of the rows as examples, what `forward` gives for them) until all have been there; the next are encoded ahead.

    Args:
      rows: a `datasets.Dataset`.
      encode: tokenises some of them.
      forward: computes.
      whole: make one part of all.
    """
    size = len(rows) if whole else ROWS_PER_CHUNK

    def part(start: int) -> Split:
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

    for data in prefetch(iter(range(0, len(rows), size)), part, 1):
        count = len(data.rows)
        yield data, forward(data.examples, report)
        done += count


class Forward:
    """A pass over examples that come in parts: what is compiled for one serves all parts with batches of that size.

    Args of the constructor:
      model, params, mesh: the parameters are on the mesh.
      config: says how large batches are.
      summarise: what to read back of the model's outputs.
      prepare: the task's.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        mesh: jax.sharding.Mesh,
        config: Config,
        summarise: Callable[[Outputs, Batch], Summary],
        prepare: Callable[[Batch, None], Batch] = lambda batch, _: batch,
    ) -> None:
        self._params, self._mesh, self._config = params, mesh, config
        self._forward = partial(_forward, model=model, summarise=summarise, prepare=prepare)
        self._known: list[tuple[Shape, ...]] = []
        self._programs: dict[Any, Any] = {}

    def __call__(self, examples: Examples, report: Callable[[float], None] = lambda _: None) -> Collected:
        """What `summarise` gives for every example; `report` is told which share of the steps is behind."""
        plan = self._plan(examples)
        programs = {shape: self._program(plan.sampler, shape, examples) for shape in plan.shapes}
        steps = itertools.count()

        def run(shape: Shape, batch: Batch) -> Summary:
            report(next(steps) / plan.sampler.steps_per_epoch)
            return programs[shape](self._params, batch)

        return run_batches(plan, examples, self._mesh, run)

    def _plan(self, examples: Examples) -> EpochBatches:
        """A plan in shapes that are there, unless others cost far less."""
        own = eval_sampler(examples, self._config, self._mesh)
        best = own.epoch_batches(0)
        for shapes in self._known:
            most = max(WASTE * _positions(best), _positions(best) + STEPS * _size(shapes[-1]))
            for share in SMALLER:
                plan = _fitting(replace(own, shapes=shapes, batch_size=max(1, int(own.batch_size * share))))
                if plan and _positions(plan) <= most:
                    return plan
        self._known.append(best.shapes)
        return best

    def _program(self, sampler: BatchSampler, shape: Shape, examples: Examples) -> Any:
        batch = abstract_batch(sampler, shape, examples, sharding.batch_sharding(self._mesh))
        key = tuple((name, x.shape, x.dtype) for name, x in sorted(batch.items()))
        if key not in self._programs:
            everywhere = sharding.replicated(self._mesh)
            lowered = sharding.lower(self._forward, self._mesh, self._params, batch, out_shardings=everywhere)
            self._programs[key] = finished(lowered, f"forward pass {size_of(shape)}")
        return self._programs[key]


def _fitting(sampler: BatchSampler) -> EpochBatches | None:
    """The sampler's plan if it needs no other shape."""
    if sampler.lengths.max() > sampler.shapes[-1].length or (
        sampler.layout != "pack" and sampler.batch_size > sampler.shapes[0].rows
    ):
        return None
    plan = sampler.epoch_batches(0)
    return plan if plan.shapes == sampler.shapes else None


def _size(shape: Shape) -> int:
    return shape.rows * shape.length


def _positions(plan: EpochBatches) -> int:
    return sum(_size(plan.shape(step)) for step in range(plan.sampler.steps_per_epoch))


def _forward(params: Params, batch: Batch, *, model: Model, summarise: Any, prepare: Any) -> Summary:
    micro = {name: x[0] for name, x in prepare(batch, None).items()}
    return summarise(model.apply(params, micro), micro)
