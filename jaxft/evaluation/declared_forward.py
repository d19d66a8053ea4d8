"""A forward pass in a few declared shapes, so that nothing is compiled once each has been used, whatever lengths come."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import jax
import numpy as np

from jaxft.core.tree import Params
from jaxft.data.batching.batch_sampler import BatchSampler, Shape
from jaxft.data.batching.collect import Summary
from jaxft.data.batching.declared_shapes import batches_in
from jaxft.data.tokens.encode import Examples
from jaxft.evaluation.chunks import compile_forward
from jaxft.evaluation.evaluator import run_batches
from jaxft.parallel import sharding
from jaxft.step.compilation import abstract_batch
from jaxft.tasks.task import Batch

# The programs of all models that are open. Those that differ only in their parameters, such as adapters of one base, have
# the same programs, and a program takes 10 MB.
_PROGRAMS: WeakValueDictionary[Any, Any] = WeakValueDictionary()


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
        self._forward, self.params, self._mesh, self._prototype = forward, params, mesh, prototype
        self.shapes = tuple(shapes)
        self._programs: dict[Shape, Any] = {}

    @property
    def compiled(self) -> tuple[Shape, ...]:
        """The shapes that have been compiled."""
        return tuple(self._programs)

    def warm_up(self) -> None:
        """Compile all shapes."""
        for shape in self.shapes:
            self.program(shape)

    def __call__(self, examples: Examples) -> Summary:
        """The outputs for every example, in their order."""
        batches = batches_in(examples.lengths, self.shapes, self._mesh.size)
        return run_batches(batches, examples, self._mesh, lambda shape, batch: self.program(shape)(self.params, batch))

    def program(self, shape: Shape) -> Any:
        """The compiled program of a shape."""
        if shape not in self._programs:
            sampler = BatchSampler(np.ones(1, np.int64), 1, None, "pack", self.shapes)
            batch = abstract_batch(sampler, shape, self._prototype, sharding.batch_sharding(self._mesh))
            self._programs[shape] = compile_forward(self._forward, self.params, batch, self._mesh, shape, _PROGRAMS)
        return self._programs[shape]
