"""The optimizer of a run: clipping, the optimizer's transformation, then learning rates, as the parameter plan says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxft.config import OptimConfig
from jaxft.core import tree
from jaxft.core.tree import Params, Path
from jaxft.optim.clip import clip_by_global_norm, global_norm
from jaxft.optim.per_layer import map_trees, of_layers, transformation
from jaxft.optim.registry import make_transformation
from jaxft.optim.schedules import PLATEAU, schedule_factor
from jaxft.param_plan import ParameterPlan, by_stage

Hyper = Mapping[str, Any]


def hyperparameters(config: OptimConfig) -> dict[str, jax.Array]:
    """The hyperparameters that may be traced, and so swept in one program, as float32 scalars.

    `plateau`, if the schedule is plateau, is the factor to which evaluations have reduced the learning rate.
    """
    values = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay}
    if config.clip is not None:
        values["clip"] = config.clip
    if config.schedule == PLATEAU:
        values[PLATEAU] = 1.0
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}


@dataclass(frozen=True)
class Optimizer:
    """What the train step needs.

    Attributes:
      build: hyperparameters, possibly traced -> the transformation.
      blocked_norm: see `global_norm`.
    """

    build: Callable[[Hyper], optax.GradientTransformation]
    blocked_norm: bool

    def norm(self, updates: Any) -> jax.Array:
        """The global norm, computed in the same way as for clipping, so that the compiler merges the two."""
        return global_norm(updates, blocked=self.blocked_norm)


def make_optimizer(config: OptimConfig, plan: ParameterPlan, total_steps: int, *, blocked_norm: bool = False) -> Optimizer:
    """Makes the optimizer of a run: clipping by the global norm, `core`, and learning rates."""

    def build(hyper: Hyper) -> optax.GradientTransformation:
        parts = [clip_by_global_norm(hyper["clip"], blocked=blocked_norm)] if "clip" in hyper else []
        parts += [by_stage(core(config, plan, hyper), plan), scale_by_learning_rates(config, plan, total_steps, hyper)]
        return optax.chain(*parts)

    return Optimizer(build, blocked_norm)


def core(config: OptimConfig, plan: ParameterPlan, hyper: Hyper) -> optax.GradientTransformation:
    """The optimizer's transformation with weight decay: the direction of each parameter's update.

    It does not depend on other parameters, so it works on any part of the trainable tree.
    """

    def amount(decay: Any) -> Any:
        """The number for a plan's weight decay, which is true, false or a number."""
        return hyper["weight_decay"] if decay is True else float(decay or 0.0)

    def decayed(path: Path, update: jax.Array, param: jax.Array) -> jax.Array:
        decay = of_layers(path, param, lambda name: plan.settings[name].weight_decay, amount)
        return update if isinstance(decay, float) and decay == 0.0 else update + decay * param

    return make_transformation(config, lambda updates, params: map_trees(decayed, updates, params))


def scale_by_learning_rates(
    config: OptimConfig, plan: ParameterPlan, total_steps: int, hyper: Hyper
) -> optax.GradientTransformation:
    """Multiplies updates by minus learning rate x schedule x multiplier, with each parameter's schedule and multiplier."""
    names = {config.schedule, *(x.schedule for x in plan.settings.values() if x.schedule)}
    factors = {name: schedule_factor(config, total_steps, name=name) for name in names}

    def update(updates: Params, state: Any, _: Any = None) -> tuple[Params, Any]:
        peak = -hyper["learning_rate"]
        rates = {name: peak * factor(state.count) for name, factor in factors.items()}
        if PLATEAU in rates:
            rates[PLATEAU] = rates[PLATEAU] * hyper[PLATEAU]

        def scaled(path: Path, u: jax.Array) -> jax.Array:
            multiplier = of_layers(path, u, lambda name: plan.settings[name].learning_rate, float)
            rate = of_layers(path, u, lambda name: plan.settings[name].schedule or config.schedule, rates.__getitem__)
            if not isinstance(multiplier, float):
                u = u * multiplier
            elif multiplier != 1.0:
                u = u * jnp.asarray(multiplier, u.dtype)
            return jnp.asarray(rate, u.dtype) * u

        return tree.map_with_path(scaled, updates), optax.ScaleByScheduleState(optax.safe_increment(state.count))

    def init(_: Any) -> Any:
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    return transformation(init, update)
