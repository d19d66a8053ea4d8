"""Stages of a run: parameters that are to be trained from a later step on move out of the frozen ones into the state.

What a stage compiles is compiled before the first step, like everything else: a program takes no device memory for
activations until it runs, and to compile beside a running step would slow that step down.
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
    """What a run trains from a step on.

    Attributes:
      start: its first step.
      state, frozen: shapes and shardings.
      program: compiled: (state of the stage before, parameters that begin) -> state.
    """

    start: int
    state: TrainState
    frozen: Parameters
    program: Any


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
    state, frozen = _abstract(state), _abstract(frozen)
    stages = []
    for start in starts:
        more, _ = _begin(plan, frozen, start)
        shapes, frozen = stage_shapes(plan, optimizer, mesh, state, frozen, start)
        places = jax.tree.map(lambda x: x.sharding, shapes)
        program = jax.jit(opened, donate_argnums=0, out_shardings=places).lower(state, more).compile()
        state = shapes
        stages.append(Stage(start, state, frozen, program))
    return stages


def stage_shapes(
    plan: ParameterPlan, optimizer: Optimizer, mesh: jax.sharding.Mesh, state: TrainState, frozen: Parameters, start: int
) -> tuple[TrainState, Parameters]:
    """(state, frozen parameters) of the stage that begins at `start`, as shapes with shardings; nothing is compiled.

    Args:
      plan, optimizer, mesh: of the run.
      state, frozen: shapes with shardings, of the stage before.
      start: a step at which parameters begin to be trained.
    """
    more, rest = _begin(plan, frozen, start)
    shapes = jax.eval_shape(partial(_opened, optimizer=optimizer), state, more)
    return jax.tree.map(sharding.with_sharding, shapes, state_shardings(mesh, shapes)), rest


def open_stage(plan: ParameterPlan, stage: Stage, state: TrainState, frozen: Parameters) -> tuple[TrainState, Parameters]:
    """(state, frozen parameters) with the parameters that begin; `state` is donated."""
    more, rest = _begin(plan, frozen, stage.start)
    return stage.program(state, more), rest


def state_shardings(mesh: jax.sharding.Mesh, state: TrainState) -> Any:
    """A sharding for every array of a state (arrays or shapes)."""
    everywhere = sharding.replicated(mesh)
    return replace(
        jax.tree.map(lambda _: everywhere, state),
        params=sharding.param_shardings(mesh, state.params),
        opt_state=sharding.optimizer_shardings(mesh, state.opt_state, state.params),
        average=sharding.param_shardings(mesh, state.average),
    )


def _begin(plan: ParameterPlan, frozen: Parameters, start: int) -> tuple[Params, Parameters]:
    """(those of the model's frozen parameters that begin at a step, the others and what lies beside them)."""

    def begins(path: tree.Path) -> bool:
        setting = plan.settings[tree.names(path)[0]]
        return setting.trainable and setting.unfreeze == start

    more, rest = tree.partition(frozen.model, begins)
    return more, replace(frozen, model=rest)


def _opened(state: TrainState, more: Params, optimizer: Optimizer) -> TrainState:
    """The state with more parameters: what it had stays, the rest is as before a first step."""
    params = tree.combine(state.params, jax.tree.map(jnp.copy, more))
    fresh = init_state(params, optimizer, state.key, state.hyper, average=bool(state.average))
    kept = dict(jax.tree_util.tree_leaves_with_path(state))
    return jax.tree_util.tree_map_with_path(kept.get, fresh)


def _abstract(arrays: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), arrays)
