"""Evaluation: every example once, on any number of devices, with device memory that does not grow with the data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from jaxft.core.pulse import PULSE
from jaxft.core.signals import nothing
from jaxft.data.batching.batch_sampler import BatchSampler, EpochBatches, Shape
from jaxft.data.batching.collect import Summary, collect
from jaxft.data.batching.prefetch import device_batch, prefetch
from jaxft.data.tokens.encode import Examples
from jaxft.parallel import sharding
from jaxft.step.compilation import Compiled, abstract_batches, compile_eval
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import LossFn
from jaxft.tasks.task import Batch, Outputs, Split, Task


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

    def collect(self, params: Parameters, check: Callable[[], None] = nothing) -> Summary:
        """The outputs of the task's `summarise` for all examples; the sums include `loss` and `weight`.

        `check` is called after every batch, and may raise to give the evaluation up.
        """

        def run(shape: Shape, batch: Batch) -> Summary:
            return self.steps.ready(shape, check)(params, batch)

        return run_batches(self.batches, self.data.examples, self.mesh, run, check=check)


def score(task: Task, summary: Summary, data: Split) -> dict[str, Any]:
    """Compute metrics by name, `loss` first, from the result of `Evaluator.collect`.

    Undefined metrics, such as the mean of no examples, are None, and `note` names them.
    """
    loss, weight = (float(summary.sums[name]) for name in ("loss", "weight"))
    scores = {"loss": loss / weight if weight else None, **task.scores(summary, data)}
    unknown = [name for name, value in scores.items() if value is None]
    return scores | ({"note": f"{data.origin} has no data to compute {', '.join(unknown)} from"} if unknown else {})


def make_evaluator(
    task: Task,
    loss_fn: LossFn,
    data: Split,
    sampler: BatchSampler,
    params: Parameters,
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
    *,
    predictions: bool = False,
) -> Evaluator:
    """Compile the evaluation of a split for parameters with the shapes and shardings of `params`.

    With `predictions`, what is read back also holds what `Task.decode` needs, in the same pass.
    """
    batches = abstract_batches(sampler, data.examples, sharding.batch_sharding(mesh))
    summarise = partial(_with_predictions, task=task) if predictions else task.summarise
    steps = compile_eval(loss_fn, summarise, params, batches, mesh, say, task.prepare)
    return Evaluator(task, data, sampler, mesh, steps)


def _with_predictions(outputs: Outputs, batch: Batch, *, task: Task) -> Summary:
    """What both evaluation and prediction read back."""
    scores, decoded = task.summarise(outputs, batch), task.predict(outputs, batch)
    return Summary(**{name: x | vars(decoded)[name] for name, x in vars(scores).items()})


def run_batches(
    batches: EpochBatches,
    examples: Examples,
    mesh: jax.sharding.Mesh,
    run: Callable[[Shape, Batch], Summary],
    summary: Summary | None = None,
    check: Callable[[], None] = nothing,
) -> Summary:
    """Collect the outputs of `run(shape, device batch)` over all batches (see `collect`), calling `check` after each."""
    batch_sharding = sharding.batch_sharding(mesh)

    def make(step: int) -> Batch:
        return device_batch(batches, examples, [step], batch_sharding)

    def results() -> Iterator[Summary]:
        previous: Any = None
        # A thread takes longer than to make one batch.
        made = prefetch(iter(range(batches.steps)), make, 2) if batches.steps > 1 else map(make, range(batches.steps))
        for step, batch in enumerate(made):
            outputs = run(batches.shape(step), batch)
            check()
            if previous is not None:  # read one step late, while the device works on the next
                yield jax.tree.map(np.asarray, previous)
                PULSE.beat()
            previous = outputs
        yield jax.tree.map(np.asarray, previous)

    return collect(batches, examples, results(), summary)
