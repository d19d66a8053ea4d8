"""Prediction in chunks of rows: memory does not grow with their number, and each chunk can be written at once.

The first chunks are smaller, so that nobody waits long for their rows. Where chunks end is a function of the number of rows,
and their outputs are a function of their rows and of the shapes that were chosen before: with these, prediction can go on.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import astuple, dataclass, replace
from functools import partial
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

ROWS_PER_CHUNK = 16_384  # at most
STEPS_OF_FIRST = 8  # of the first chunk; each later one is twice as large
WASTE, STEPS = 1.25, 8  # batches for compiled programs may cost this factor, or this many steps, more than new programs
SMALLER = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85)  # shares of the batch size that are tried to fit into compiled shapes


@dataclass(frozen=True)
class Place:
    """Where a prediction continues: the number of rows that are done, and the shapes that were chosen for them."""

    rows: int = 0
    shapes: tuple[tuple[Shape, ...], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As JSON values, for `of_json`."""
        return {
            "rows": self.rows,
            "shapes": [[[int(x) for x in astuple(shape)] for shape in shapes] for shapes in self.shapes],
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "Place":
        """The place that `as_json` describes."""
        return cls(values["rows"], tuple(tuple(Shape(*shape) for shape in shapes) for shapes in values["shapes"]))


@dataclass(frozen=True)
class Pass:
    """How a pass over rows is made.

    Attributes:
      start: where it begins.
      report: called with the number of rows that are done, also within a chunk; None reports it in lines.
      check: called after every step, and may raise to end the pass.
    """

    start: Place = Place()
    report: Callable[[int], None] | None = None
    check: Callable[[], None] = nothing


WHOLE_PASS = Pass()


def chunk_ends(count: int, batch_size: int, layout: str) -> list[int]:
    """The number of rows after each chunk of `count` rows, which are predicted `batch_size` at a time, at most.

    Small chunks consist of batches of the size that all rows together would have: one more, and smaller, batch in each would
    cost time. If batches are not packed, they are sorted by length within a chunk, and small ones would be padded more.
    """
    if not count:
        return []
    batch_size = -(-count // -(-count // batch_size))
    size = min(ROWS_PER_CHUNK, STEPS_OF_FIRST * batch_size) if layout == "pack" else ROWS_PER_CHUNK
    ends = []
    while not ends or ends[-1] < count:
        ends.append(min((ends[-1] if ends else 0) + size, count))
        size = min(ROWS_PER_CHUNK, 2 * size)
    return ends


def in_chunks(
    rows: Any,
    encode: Callable[[Any], Split],
    forward: "Forward",
    *,
    whole: bool = False,
    way: Pass = WHOLE_PASS,
) -> Iterator[tuple[Split, Summary, Place]]:
    """Yield (a chunk of rows, which `encode` tokenised, the outputs of `forward` for it, the place after it).

    `whole` makes all rows one chunk. The next chunk is tokenised ahead in a thread.
    """
    ends = [len(rows)] if whole else chunk_ends(len(rows), *forward.batching)
    begins = [begin for begin in (0, *ends[:-1]) if begin >= way.start.rows]
    ends = [end for end in ends if end > way.start.rows]

    def chunk(begin: int, end: int) -> Split:
        if (begin, end) == (0, len(rows)):
            return encode(rows)
        try:
            with silent():
                return encode(select_rows(rows, range(begin, end)))
        finally:
            unload()

    report = way.report or Progress("predicting", len(rows)).at
    forward.known_shapes = list(way.start.shapes)
    done = way.start.rows
    for data in prefetch(iter(zip(begins, ends, strict=True)), lambda x: chunk(*x), 1):
        count, before = len(data.rows), done

        def share_done(share: float, before: int = before, count: int = count) -> None:
            report(before + int(share * count))

        summary = forward(data.examples, share_done, check=way.check)
        done += count
        yield data, summary, Place(done, tuple(forward.known_shapes))


class Forward:
    """A forward pass over chunks of examples; programs compiled for one chunk are reused for the next ones.

    `forward` maps parameters on the mesh and a batch [1, R, ...] of one micro-batch to what to read back.

    Attributes:
      known_shapes: the shapes that were chosen for some chunk, in their order.
    """

    def __init__(
        self, forward: Callable[[Params, Batch], Summary], params: Params, mesh: jax.sharding.Mesh, config: Config
    ) -> None:
        self._forward, self._params, self._mesh, self._config = forward, params, mesh, config
        self.known_shapes: list[tuple[Shape, ...]] = []
        self._programs: dict[Any, Any] = {}

    @property
    def batching(self) -> tuple[int, str]:
        """The largest number of examples in a batch, and their layout."""
        return self._config.eval.batch_size, self._config.data.layout

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
        for shapes in self.known_shapes:
            limit = max(WASTE * _positions(best), _positions(best) + STEPS * _size(shapes[-1]))
            for share in SMALLER:
                batches = _with_given_shapes(replace(own, shapes=shapes, batch_size=max(1, int(own.batch_size * share))))
                if batches and _positions(batches) <= limit:
                    return batches
        self.known_shapes.append(best.shapes)
        return best

    def _program(self, sampler: BatchSampler, shape: Shape, examples: Examples) -> Any:
        batch = abstract_batch(sampler, shape, examples, sharding.batch_sharding(self._mesh))
        key = tuple((name, x.shape, x.dtype) for name, x in sorted(batch.items()))
        if key not in self._programs:
            self._programs[key] = compile_forward(self._forward, self._params, batch, self._mesh, shape)
        return self._programs[key]


def compile_forward(
    forward: Callable[[Params, Batch], Summary],
    params: Params,
    batch: Any,
    mesh: jax.sharding.Mesh,
    shape: Shape,
    known: MutableMapping[Any, Any] | None = None,
) -> Any:
    """Compile `forward` for the parameters and a batch (shapes and types) of a shape; every process can read its outputs.

    `known` holds programs of other models; one that computes the same is taken from there, and a new one is added.
    """
    # JAX keeps what it has traced as long as the function lives, so a copy is traced, which ends here. Without keep_unused,
    # programs of one text might take different ones of the parameters.
    options = {"out_shardings": sharding.replicated(mesh), "keep_unused": known is not None}
    lowered = sharding.lower(partial(forward), mesh, params, batch, **options)
    name = f"forward pass {size_of(shape)}"
    if known is None:
        return compile_lowered(lowered, name)
    key = hashlib.sha256(lowered.as_text().encode()).digest(), lowered.in_tree, lowered.out_tree, mesh
    if (program := known.get(key)) is None:
        program = known[key] = compile_lowered(lowered, name)
    return program


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
