"""A forward pass in a few declared shapes, so that nothing is compiled once each has been used, whatever lengths come."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxft.core.tree import Params
from jaxft.data.batching.batch_sampler import BatchSampler, EpochBatches, Shape
from jaxft.data.batching.collect import Summary, collect
from jaxft.data.batching.declared_shapes import batches_in
from jaxft.data.batching.prefetch import local_rows, put
from jaxft.data.tokens.encode import Examples
from jaxft.parallel import sharding
from jaxft.step.compilation import abstract_batch, compile_lowered, size_of
from jaxft.tasks.task import Batch


class DeclaredForward:
    """Applies a function to examples of any number and any lengths, in batches of declared shapes.

    Args of the constructor:
      forward: (parameters, batch [1, R, ...] of one micro-batch) -> what to read back.
      params: on the mesh.
      shapes: from `declare_shapes`.
      prototype: examples with the columns of all later ones.
    """

    def __init__(
        self,
        forward: Callable[[Params, Batch], Summary],
        params: Params,
        mesh: jax.sharding.Mesh,
        shapes: Sequence[Shape],
        prototype: Examples,
    ) -> None:
        self._forward, self._params, self._mesh, self._prototype = forward, params, mesh, prototype
        self.shapes = tuple(shapes)
        self._programs: dict[Shape, Any] = {}

    @property
    def compiled(self) -> tuple[Shape, ...]:
        """The shapes that have been compiled."""
        return tuple(self._programs)

    def warm_up(self) -> None:
        """Compile all shapes."""
        for shape in self.shapes:
            self._program(shape)

    def __call__(self, examples: Examples) -> Summary:
        """The outputs for every example, in their order."""
        batches = batches_in(examples.lengths, self.shapes, self._mesh.size)
        return collect(batches, examples, self._results(batches, examples))

    def _results(self, batches: EpochBatches, examples: Examples) -> Iterator[Summary]:
        previous: Any = None
        for step in range(batches.steps):
            shape = batches.shape(step)
            batch = batches.batch(examples, step, local_rows(self._sharding, shape.rows))
            outputs = self._program(shape)(self._params, put(batch, self._sharding, shape.rows))
            if previous is not None:  # read one step late, while the device works on the next
                yield jax.tree.map(np.asarray, previous)
            previous = outputs
        if previous is not None:
            yield jax.tree.map(np.asarray, previous)

    @cached_property
    def _sharding(self) -> Any:
        return sharding.batch_sharding(self._mesh)

    def _program(self, shape: Shape) -> Any:
        if shape not in self._programs:
            sampler = BatchSampler(np.ones(1, np.int64), 1, None, "pack", self.shapes)
            batch: Mapping[str, Any] = abstract_batch(sampler, shape, self._prototype, self._sharding)
            everywhere = sharding.replicated(self._mesh)
            lowered = sharding.lower(self._forward, self._mesh, self._params, batch, out_shardings=everywhere)
            self._programs[shape] = compile_lowered(lowered, f"forward pass {size_of(shape)}")
        return self._programs[shape]
