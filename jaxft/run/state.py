"""The state of a run before its first step: arrays, or shapes for a mesh whose devices need not exist."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxft import optim
from jaxft.core import checksums, random_keys, tree
from jaxft.core.tree import Params
from jaxft.parallel import sharding
from jaxft.run.model_setup import ModelSetup
from jaxft.step.parameters import Parameters
from jaxft.step.stages import state_shardings
from jaxft.step.train_step import TrainState, init_state
from jaxft.step.training_only import of_model
from jaxft.step.unused_embeddings import split_unused


def fresh_state(run: ModelSetup) -> tuple[TrainState, Parameters]:
    """(trainable state before the first step, frozen parameters): float32 arrays on the mesh, the layers stacked."""
    trainable, frozen = _split(run)
    shapes, _ = _shapes(run, trainable, frozen)
    shardings = jax.tree.map(lambda x: x.sharding, shapes)
    trainable = sharding.place_params(run.mesh, trainable)
    return jax.jit(_initialiser(run), out_shardings=shardings)(trainable), _placed(run, frozen)


def fresh_frozen(run: ModelSetup) -> Parameters:
    """The frozen parameters before the first step, placed on the mesh."""
    return _placed(run, _split(run)[1])


def start_shapes(run: ModelSetup) -> tuple[TrainState, Parameters]:
    """The shapes and shardings of `fresh_state`."""
    return _shapes(run, *_split(run))


def with_constants(run: ModelSetup, shapes: TrainState) -> TrainState:
    """A state of shapes in which the key and the hyperparameters, which no checkpoint holds, are arrays on the mesh."""
    constants = _constants(run)
    key, hyper = jax.jit(lambda: constants, out_shardings=sharding.replicated(run.mesh))()
    return replace(shapes, key=key, hyper=hyper)


def with_factors(run: ModelSetup, state: TrainState, *, scale: float, plateau: float) -> TrainState:
    """The state with the learning rate times `scale`, which callbacks set, and with the factor of a plateau."""
    values = {"learning_rate": run.config.optim.learning_rate * scale, optim.PLATEAU: plateau}
    place = sharding.replicated(run.mesh)
    hyper = {name: sharding.device_put(np.float32(x), place) for name, x in values.items() if name in state.hyper}
    return replace(state, hyper=state.hyper | hyper)


def frozen_content(run: ModelSetup) -> str:
    """The digest of the frozen parameters before the first step."""
    flat = tree.flatten(_split(run)[1].as_stored())
    return checksums.of_arrays((".".join(path), flat[path]) for path in sorted(flat))


def run_optimizer(run: ModelSetup) -> optim.Optimizer:
    """The optimizer of a run."""
    blocked = run.mesh.size == 1 and run.mesh.devices.flat[0].platform == "cpu"
    return optim.make_optimizer(run.config.optim, run.plan, run.total_steps, blocked_norm=blocked)


def model_params(state: TrainState, frozen: Parameters) -> Parameters:
    """All parameters of the model, without teacher, reference and what training alone has; the trained ones as a moving
    average if there is one.

    The word embeddings of a run with unused words are those of the used words (`unused_embeddings.whole` adds the others).
    """
    whole = frozen.combined(state.evaluated)
    return replace(whole, model=of_model(whole.model), reference={}, teachers={})


def _split(run: ModelSetup) -> tuple[Params, Parameters]:
    """(trainable parameters of the first stage, frozen parameters), on the host."""
    params, unused = split_unused(run.params, run.used_words)
    trainable, frozen = run.plan.split(params)
    # The reference is of the parameters that are trained in any stage.
    reference = run.plan.split(params, run.total_steps)[0] if run.regularization.needs_reference else {}
    return trainable, Parameters(frozen, unused, reference)


def _placed(run: ModelSetup, frozen: Parameters) -> Parameters:
    return frozen.each(partial(sharding.place_params, run.mesh))


def _shapes(run: ModelSetup, trainable: Params, frozen: Parameters) -> tuple[TrainState, Parameters]:
    shapes = partial(sharding.shapes, run.mesh)
    state = jax.eval_shape(_initialiser(run), shapes(trainable))
    return jax.tree.map(sharding.with_sharding, state, state_shardings(run.mesh, state)), frozen.each(shapes)


def _initialiser(run: ModelSetup) -> Callable[[Params], TrainState]:
    """A function from trainable parameters to the state before the first step."""
    key, hyper = _constants(run)
    optimizer, average = run_optimizer(run), bool(run.config.regularization.ema)
    return lambda params: init_state(params, optimizer, key, hyper, average=average)


def _constants(run: ModelSetup) -> tuple[jax.Array, dict[str, Any]]:
    """(the root key, the hyperparameters)."""
    return random_keys.root_key(run.config.seed), optim.hyperparameters(run.config.optim)
