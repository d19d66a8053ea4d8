"""The teacher over all examples: one forward pass each, in batches that do not depend on the run."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxft.core.phases import COMPILING, phase
from jaxft.core.progress import Progress, announced
from jaxft.core.tree import Params
from jaxft.data.batching.batch_sampler import EpochBatches
from jaxft.data.batching.collect import Summary, of_step
from jaxft.data.batching.prefetch import device_batch, prefetch
from jaxft.data.tokens.encode import Examples
from jaxft.evaluation.chunks import compile_forward
from jaxft.models.model import Model
from jaxft.parallel import sharding
from jaxft.step.cached_teacher import StoredOutput, is_stored
from jaxft.step.compilation import abstract_batch, size_of
from jaxft.tasks.task import Batch


def texts_of(examples: Examples) -> Examples:
    """What of the examples a model reads."""
    tokens = {name: examples.tokens[name] for name in ("input_ids", "token_type_ids")}
    return Examples(tokens, examples.offsets, {}, examples.group)


def outputs(
    model: Model,
    params: Params,
    mesh: jax.sharding.Mesh,
    texts: Examples,
    batches: EpochBatches,
    stored: Sequence[StoredOutput],
    say: Callable[[str], None],
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yield (the values of all columns, how many examples are complete with them) of each step of `batches`.

    Args:
      model, params: the teacher, its parameters on the mesh.
      texts: of `texts_of`.
      batches: contiguous ranges of the texts, from `fixed_batches`.
      stored: what is yielded.
    """
    of_encoder = tuple(x.name for x in stored if is_stored(x.name))

    def forward(params: Params, batch: Batch) -> Summary:
        found = model.apply(params, {name: x[0] for name, x in batch.items()}, outputs=of_encoder)
        summary = Summary()
        for x in stored:
            target = summary.examples if x.per == "example" else summary.tokens
            target.update(x.store(found[x.name]))
        return summary

    of_batches, programs = sharding.batch_sharding(mesh), {}
    for number in np.unique(batches.shape_index).tolist():
        shape = batches.shapes[number]
        abstract = abstract_batch(batches.sampler, shape, texts, of_batches)
        with phase(COMPILING), announced(f"compiling the teacher {size_of(shape)}", say):
            programs[shape] = compile_forward(forward, params, abstract, mesh, shape)
    progress = Progress("running the teacher", len(texts))

    def values(step: int, result: Any) -> tuple[dict[str, np.ndarray], int]:
        found = of_step(batches, texts, step, jax.tree.map(np.asarray, result))
        done = int(batches.begins[step + 1])
        progress.at(done)
        return {**found.examples, **found.tokens}, done

    def make(step: int) -> Batch:
        return device_batch(batches, texts, [step], of_batches)

    previous: Any = None
    for step, batch in enumerate(prefetch(iter(range(batches.steps)), make, 2)):
        result = programs[batches.shape(step)](params, batch)
        if previous is not None:  # read one step late, while the device works on the next
            yield values(step - 1, previous)
        previous = result
    if previous is not None:
        yield values(batches.steps - 1, previous)
