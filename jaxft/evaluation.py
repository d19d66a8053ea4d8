"""Evaluation: every example once, on any number of devices, in memory that does not grow with their number."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxft import sharding
from jaxft.compiled import Compiled, abstract_batches, compile_eval
from jaxft.data.batches import EpochPlan, Planner
from jaxft.data.encode import Examples
from jaxft.data.feed import device_batch, prefetch
from jaxft.step import LossFn
from jaxft.tasks.text_classification import TextClassification
from jaxft.tree import Params


@dataclass(frozen=True)
class Evaluator:
    """Evaluation of one split; compile once, run as often as wanted."""

    task: TextClassification
    examples: Examples
    planner: Planner
    mesh: jax.sharding.Mesh
    steps: Compiled

    @cached_property
    def plan(self) -> EpochPlan:
        """The one plan of this split."""
        return self.planner.plan_epoch(0)

    def scores(self, params: Params, frozen: Params) -> dict[str, float]:
        """Metrics by name, `loss` among them."""
        counts = self.task.counts()
        late: Any = None
        for step, batch in enumerate(feed(self.plan, self.examples, range(self.planner.steps_per_epoch), self.mesh)):
            outputs = self.steps[self.plan.shape(step)](params, frozen, batch)
            if late is not None:  # read one step late: the device already works on the next
                self.task.count(counts, jax.tree.map(np.asarray, late))
            late = outputs
        self.task.count(counts, jax.tree.map(np.asarray, late))
        return counts.scores()


def make_evaluator(
    task: TextClassification,
    loss_fn: LossFn,
    examples: Examples,
    planner: Planner,
    params: Params,
    frozen: Params,
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
) -> Evaluator:
    """Compile the evaluation of a split for parameters of these shapes and shardings."""
    batches = abstract_batches(planner, examples, sharding.batch_sharding(mesh))
    steps = compile_eval(loss_fn, task.summarise, params, frozen, batches, mesh, say)
    return Evaluator(task, examples, planner, mesh, steps)


def feed(plan: EpochPlan, examples: Examples, steps: Any, mesh: jax.sharding.Mesh, depth: int = 2) -> Any:
    """Device batches of some steps of an epoch, made ahead by a thread."""
    place = sharding.batch_sharding(mesh)
    return prefetch(iter(steps), lambda step: device_batch(plan, examples, step, place), depth)
