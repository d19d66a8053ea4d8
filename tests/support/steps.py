"""Gradients of a run's real train steps in any layout and on any devices, and assertions that two runs agree."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from jaxft import optim
from jaxft.config import MeshConfig
from jaxft.core import random_keys, tree
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.batching.prefetch import put
from jaxft.data.tokens.encode import Examples
from jaxft.parallel import sharding
from jaxft.run.loss import needs_all_rows, run_loss, run_prepare
from jaxft.run.setup import Run
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import init_state, train_step
from tests.support import tiny

TOLERANCE = 1e-5


STEPS = (1, 6)  # 100 examples in steps of 16: the last step holds 4, fewer than there are devices


# An "optimizer" whose state after a step is the step's gradients.
RECORDER = optim.Optimizer(
    lambda _: optax.GradientTransformation(lambda p: jax.tree.map(np.zeros_like, p), lambda g, *_: (g, g)), False
)


def configure(model: Path, data: Path, output: Path, /, **sections: dict):
    sections["model"] = {"path": str(model), **tiny.NO_DROPOUT, **sections.get("model", {})}
    sections["data"] = {"validation": None, **sections.get("data", {})}
    return tiny.run_config(model, data, output, **sections)


def training_examples(run: Run) -> Examples:
    """The examples of epoch 0."""
    if not run.epochs:
        return run.data["train"].examples
    assert run.epochs.first
    return run.epochs.first[0]


def rearranged(run: Run, layout: str = "pack", micro_batches: int = 1, data: int = 1, fsdp: int = 1) -> Run:
    """The run with another layout, other micro-batches or other devices."""
    mesh, examples = (
        sharding.make_mesh(MeshConfig(data, fsdp)),
        training_examples(run),
    )
    sampler = make_sampler(
        examples.lengths,
        batch_size=run.epochs.batch_size if run.epochs else run.config.train.batch_size,
        parts=run.epochs.parts if run.epochs else (),
        orders=run.sampler.orders,
        max_length=run.config.data.max_length * examples.group,
        layout=layout,
        seed=run.config.seed,
        shapes=1,
        micro_batches=micro_batches,
        shards=mesh.size,
    )
    return replace(run, sampler=sampler, mesh=mesh)


def gradients(run: Run) -> list[tuple[float, dict[str, np.ndarray]]]:
    """(loss, gradient by parameter name) of each of STEPS, through the real train step."""
    trainable, frozen = run.plan.split(run.params)
    trainable = sharding.device_put(trainable, sharding.param_shardings(run.mesh, trainable))
    teachers = {teacher.key: teacher.params for teacher in run.teachers if teacher.is_live}
    # The parameters that penalties pull to: at some distance, as after training.
    reference = jax.tree.map(lambda x: x * 0.9, run.plan.split(run.params)[0]) if run.regularization.needs_reference else {}
    frozen = Parameters(frozen, reference=reference, teachers=teachers).each(
        lambda part: sharding.device_put(part, sharding.param_shardings(run.mesh, part))
    )
    state = init_state(trainable, RECORDER, random_keys.root_key(0), optim.hyperparameters(run.config.optim))
    step = jax.jit(
        partial(
            train_step,
            loss_fn=run_loss(run),
            optimizer=RECORDER,
            prepare=run_prepare(run),
            regularization=run.regularization,
            needs_all_rows=needs_all_rows(run),
        )
    )
    batches = run.sampler.epoch_batches(0)
    examples = training_examples(run)
    results = []
    for number in STEPS:
        rows = batches.shape(number).rows // run.sampler.micro_batches
        batch = put(batches.batch(examples, number), sharding.batch_sharding(run.mesh), rows)
        with sharding.use_mesh(run.mesh):
            after, metrics = step(state, frozen, batch)
        grads = tree.unstack(tree.recut(jax.tree.map(np.asarray, after.opt_state), []))
        results.append((float(metrics["loss"]), grads))
    return results


def assert_same(run: Run, reference: list[tuple[float, dict[str, np.ndarray]]]) -> None:
    """Losses and gradients of a run equal those of `gradients(other run)` within TOLERANCE."""
    for (loss, grads), (right_loss, right) in zip(gradients(run), reference, strict=True):
        assert loss == pytest.approx(right_loss, rel=TOLERANCE)
        assert grads.keys() == right.keys()
        largest = max(np.abs(g).max() for g in right.values())
        assert largest > 1e-3
        for name, g in grads.items():
            assert np.abs(g - right[name]).max() <= TOLERANCE * largest, name


LAYOUTS = {
    "bucket": {"layout": "bucket"},
    "pack": {},
    "5 micro-batches padded": {"micro_batches": 5, "layout": "pad"},
    "data 4, fsdp 2": {"data": 4, "fsdp": 2},
    "fsdp 8, 2 micro-batches": {"fsdp": 8, "micro_batches": 2},
}


def flat(params) -> dict[str, np.ndarray]:
    return tree.unstack(jax.tree.map(np.array, params))


def moment_trees(opt_state) -> list[tree.Params]:
    """The trees in an optimizer's state that have the structure of parameters."""
    found = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, dict))
    return [x for x in found if isinstance(x, dict)]


def moments(opt_state) -> list[set[str]]:
    """The names of the parameters in every moment of an optimizer's state."""
    return [set(tree.all_names(x)) for x in moment_trees(opt_state)]
