"""Stages of a run: parameters that are trained from a later step on move from the frozen ones into the state.

The programs that open stages are compiled before the first step like all others: a program takes no device memory for
activations until it runs, and compiling during a step would slow that step down.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.core import tree
from jaxft.core.tree import Params
from jaxft.optim import Optimizer
from jaxft.parallel import sharding
from jaxft.param_plan import ParameterPlan
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import TrainState, init_state


@dataclass(frozen=True)
class Stage:
    """The steps from `start` on, at which parameters begin to be trained; state and frozen parameters are shapes."""

    start: int
    state: TrainState
    frozen: Parameters
    program: Any  # compiled: (state of the stage before, parameters that begin to be trained) -> state


def later_stages(
    plan: ParameterPlan,
    optimizer: Optimizer,
    mesh: jax.sharding.Mesh,
    state: TrainState,
    frozen: Parameters,
    starts: Iterable[int],
) -> list[Stage]:
    """The stages that begin at `starts`, where `state` and `frozen` (arrays or shapes) are of the stage before them."""
    opened = partial(_opened, optimizer=optimizer)
    state, frozen = jax.tree.map(lambda x: sharding.with_sharding(x, x.sharding), (state, frozen))
    stages = []
    for start in starts:
        unfrozen, frozen = unfreeze(plan, frozen, start)
        shapes = stage_shapes(optimizer, mesh, state, unfrozen)
        shardings = jax.tree.map(lambda x: x.sharding, shapes)
        program = jax.jit(opened, donate_argnums=0, out_shardings=shardings).lower(state, unfrozen).compile()
        state = shapes
        stages.append(Stage(start, state, frozen, program))
    return stages


def open_stage(plan: ParameterPlan, stage: Stage, state: TrainState, frozen: Parameters) -> tuple[TrainState, Parameters]:
    """(state, frozen parameters) at the start of a stage, from those of the stage before; `state` is donated."""
    unfrozen, frozen = unfreeze(plan, frozen, stage.start)
    return stage.program(state, unfrozen), frozen


def unfreeze(plan: ParameterPlan, frozen: Parameters, start: int) -> tuple[Params, Parameters]:
    """(the frozen parameters that begin to be trained at step `start`, the other frozen parameters); arrays or shapes."""

    def begins(path: tree.Path) -> bool:
        setting = plan.settings[tree.names(path)[0]]
        return setting.trainable and setting.unfreeze == start

    unfrozen, rest = tree.partition(frozen.model, begins)
    return unfrozen, replace(frozen, model=rest)


def stage_shapes(optimizer: Optimizer, mesh: jax.sharding.Mesh, state: TrainState, unfrozen: Params) -> TrainState:
    """The state at the start of a stage as shapes with shardings, from that of the stage before; nothing is compiled."""
    shapes = jax.eval_shape(partial(_opened, optimizer=optimizer), state, unfrozen)
    return jax.tree.map(sharding.with_sharding, shapes, state_shardings(mesh, shapes))


def state_shardings(mesh: jax.sharding.Mesh, state: TrainState) -> Any:
    """A sharding for every array of a state (arrays or shapes)."""
    everywhere = sharding.replicated(mesh)
    return replace(
        jax.tree.map(lambda _: everywhere, state),
        params=sharding.param_shardings(mesh, state.params),
        opt_state=sharding.optimizer_shardings(mesh, state.opt_state, state.params),
        average=sharding.param_shardings(mesh, state.average),
    )


def _opened(state: TrainState, unfrozen: Params, optimizer: Optimizer) -> TrainState:
    """The state with more parameters: what it had is unchanged, the rest is as before a first step."""
    params = tree.combine(state.params, jax.tree.map(jnp.copy, unfrozen))
    fresh = init_state(params, optimizer, state.key, state.hyper, average=bool(state.average))
    previous = dict(jax.tree_util.tree_leaves_with_path(state))
    return jax.tree_util.tree_map_with_path(previous.get, fresh)
