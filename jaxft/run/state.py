"""The state of a run: fresh, or as shapes for a mesh that is not here."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax

from jaxft import optim
from jaxft.core import checksums, random_keys, tree
from jaxft.core.tree import Params
from jaxft.parallel import sharding
from jaxft.run.model_setup import ModelSetup
from jaxft.step.parameters import Parameters
from jaxft.step.stages import state_shardings
from jaxft.step.train_step import TrainState, init_state
from jaxft.step.unused_embeddings import split_unused


def fresh_state(run: ModelSetup) -> tuple[TrainState, Parameters]:
    """(trainable state before the first step, frozen parameters), placed on the mesh."""
    start = _start(run)
    shapes, _ = _shapes(run, *start)
    trainable, frozen = sharding.place_params(run.mesh, start[0]), start[1].each(partial(sharding.place_params, run.mesh))
    places = jax.tree.map(lambda x: x.sharding, shapes)
    return jax.jit(_starter(run), out_shardings=places)(trainable), frozen


def fresh_frozen(run: ModelSetup) -> Parameters:
    """The frozen parameters before the first step, placed on the mesh."""
    return _start(run)[1].each(partial(sharding.place_params, run.mesh))


def start_shapes(run: ModelSetup) -> tuple[TrainState, Parameters]:
    """`fresh_state` as shapes and shardings, for a mesh whose devices need not be there."""
    return _shapes(run, *_start(run))


def _shapes(run: ModelSetup, trainable: Params, frozen: Parameters) -> tuple[TrainState, Parameters]:
    trainable, frozen = sharding.shapes(run.mesh, trainable), frozen.each(partial(sharding.shapes, run.mesh))
    state = jax.eval_shape(_starter(run), trainable)
    return jax.tree.map(sharding.with_sharding, state, state_shardings(run.mesh, state)), frozen


def with_constants(run: ModelSetup, shapes: TrainState) -> TrainState:
    """A state of shapes in which the key and the hyperparameters, which no checkpoint holds, are arrays on the mesh."""
    constants = random_keys.root_key(run.config.seed), optim.hyperparameters(run.config.optim)
    key, hyper = jax.jit(lambda: constants, out_shardings=sharding.replicated(run.mesh))()
    return replace(shapes, key=key, hyper=hyper)


def _starter(run: ModelSetup) -> Callable[[Params], TrainState]:
    """Trainable parameters -> the state before the first step."""
    hyper = optim.hyperparameters(run.config.optim)
    key = random_keys.root_key(run.config.seed)
    optimizer = run_optimizer(run)
    average = bool(run.config.regularization.ema)
    return lambda params: init_state(params, optimizer, key, hyper, average=average)


def frozen_content(run: ModelSetup) -> str:
    """The digest of what is frozen before the first step."""
    flat = tree.flatten(_start(run)[1].as_stored())
    return checksums.of_arrays((".".join(path), flat[path]) for path in sorted(flat))


def _start(run: ModelSetup) -> tuple[Params, Parameters]:
    """(trainable parameters of the first stage, all that is frozen), on the host."""
    params, unused = split_unused(run.params, run.used_words)
    trainable, frozen = run.plan.split(params)
    # The reference is of all that is trained sooner or later.
    reference = run.plan.split(params, run.total_steps)[0] if run.regularization.needs_reference else {}
    return trainable, Parameters(frozen, unused, reference)


def run_optimizer(run: ModelSetup) -> optim.Optimizer:
    """The optimizer of a run."""
    blocked = run.mesh.size == 1 and run.mesh.devices.flat[0].platform == "cpu"
    return optim.make_optimizer(run.config.optim, run.plan, run.total_steps, blocked_norm=blocked)


def model_params(state: TrainState, frozen: Parameters) -> Parameters:
    """The model's parameters, trainable or not, without teacher and reference; the moving average where one is kept.

    Where words are left out, the table is of those that are used (`unused_embeddings.whole` joins them).
    """
    return replace(frozen.combined(state.evaluated), reference={}, teachers={})
