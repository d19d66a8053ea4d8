"""Evaluation: every example once, on any number of devices, with device memory that does not grow with the data."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxft.core.tree import Params
from jaxft.data.batching.batch_sampler import BatchSampler, EpochBatches, Shape
from jaxft.data.batching.collect import Collected, collect
from jaxft.data.batching.prefetch import device_batch, prefetch
from jaxft.data.tokens.encode import Examples
from jaxft.parallel import sharding
from jaxft.step.compilation import Compiled, abstract_batches, compile_eval, compile_lowered, size_of
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import LossFn
from jaxft.tasks.task import Batch, Split, Summary, Task


@dataclass(frozen=True)
class Evaluator:
    """Compiled evaluation of one split, which can be run repeatedly."""

    task: Task
    data: Split
    sampler: BatchSampler
    mesh: jax.sharding.Mesh
    steps: Compiled[Shape]

    @cached_property
    def batches(self) -> EpochBatches:
        """The batches of the split, the same in every evaluation."""
        return self.sampler.epoch_batches(0)

    def scores(self, params: Parameters) -> dict[str, Any]:
        """Metrics by name, `loss` first."""
        return score(self.task, self.collect(params), self.data)

    def collect(self, params: Parameters) -> Collected:
        """The outputs of the task's `summarise` for all examples; the sums include `loss` and `weight`."""
        return run_batches(self.batches, self.data.examples, self.mesh, lambda shape, b: self.steps[shape](params, b))


def score(task: Task, collected: Collected, data: Split) -> dict[str, Any]:
    """Compute metrics by name, `loss` first, from the result of `Evaluator.collect`.

    Undefined metrics, such as the mean of no examples, are None, and `note` names them.
    """
    loss, weight = (float(collected.sums[name]) for name in ("loss", "weight"))
    scores = {"loss": loss / weight if weight else None, **task.scores(collected, data)}
    unknown = [name for name, value in scores.items() if value is None]
    return scores | ({"note": f"nothing to compute {', '.join(unknown)} of in {data.origin}"} if unknown else {})


def make_evaluator(
    task: Task,
    loss_fn: LossFn,
    data: Split,
    sampler: BatchSampler,
    params: Parameters,
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
) -> Evaluator:
    """Compile the evaluation of a split for parameters with the shapes and shardings of `params`."""
    batches = abstract_batches(sampler, data.examples, sharding.batch_sharding(mesh))
    steps = compile_eval(loss_fn, task.summarise, params, batches, mesh, say, task.prepare)
    return Evaluator(task, data, sampler, mesh, steps)


def collect_outputs(
    forward: Callable[[Params, Batch], Summary],
    params: Params,
    sampler: BatchSampler,
    examples: Examples,
    mesh: jax.sharding.Mesh,
    found: Collected | None = None,
) -> Collected:
    """Compile `forward`, (parameters, batch of one micro-batch) -> outputs, and collect the outputs for all examples."""
    everywhere = sharding.replicated(mesh)
    batches = abstract_batches(sampler, examples, sharding.batch_sharding(mesh))
    lowered = {shape: sharding.lower(forward, mesh, params, x, out_shardings=everywhere) for shape, x in batches.items()}
    compiled = {shape: compile_lowered(x, f"forward pass {size_of(shape)}") for shape, x in lowered.items()}
    return run_batches(sampler.epoch_batches(0), examples, mesh, lambda shape, batch: compiled[shape](params, batch), found)


def run_batches(
    batches: EpochBatches,
    examples: Examples,
    mesh: jax.sharding.Mesh,
    run: Callable[..., Any],
    found: Collected | None = None,
) -> Collected:
    """Collect the outputs of `run(shape, device batch)` over all batches (see `collect`)."""
    place = sharding.batch_sharding(mesh)
    steps = range(batches.sampler.steps_per_epoch)

    def results() -> Iterator[Mapping[str, Mapping[str, Any]]]:
        late: Any = None
        for step, batch in enumerate(prefetch(iter(steps), lambda step: device_batch(batches, examples, [step], place), 2)):
            outputs = run(batches.shape(step), batch)
            if late is not None:  # read one step late, while the device works on the next
                yield jax.tree.map(np.asarray, late)
            late = outputs
        yield jax.tree.map(np.asarray, late)

    return collect(batches, examples, results(), found)
