"""The optimizer of a run: clipping, the optimizer's transformation for each stage, and the plan's learning rates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxft.config import OptimConfig
from jaxft.core import tree
from jaxft.core.tree import Params, Path
from jaxft.optim.per_layer import map_trees, of_layers, transformation
from jaxft.optim.registry import make_transformation
from jaxft.optim.schedules import PLATEAU, schedule_factor
from jaxft.param_plan import ParameterPlan

Hyper = Mapping[str, Any]
_BLOCK = 1 << 16  # floats; the running sums stay in the L2 cache


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
    """The optimizer as the train step uses it.

    Attributes:
      build: hyperparameters, possibly traced -> the transformation.
      blocked_norm: see `global_norm`.
    """

    build: Callable[[Hyper], optax.GradientTransformation]
    blocked_norm: bool

    def norm(self, updates: Any) -> jax.Array:
        """The global norm of a tree, a float32 scalar, computed as for clipping, so that the compiler merges the two."""
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

    def amount(setting: bool | float) -> Any:
        return hyper["weight_decay"] if setting is True else float(setting)

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


def by_stage(core: optax.GradientTransformation, plan: ParameterPlan) -> optax.GradientTransformation:
    """`core` with a separate state for the parameters of each stage, as PyTorch has one for each parameter.

    So bias correction counts from the step at which the parameters of a stage are unfrozen, and the states of earlier stages
    are the same arrays after a stage begins. The state is a tuple, in the order of the stages, that grows at its end. In
    `core` no parameter's update or state may depend on other parameters.
    """
    if len(plan.stages) == 1:
        return core

    def parts(params: Params) -> list[Params]:
        flat = tree.flatten(params)
        groups = [{path: x for path, x in flat.items() if plan.of(path).unfreeze == start} for start in plan.stages]
        return [tree.unflatten(group) for group in groups if group]

    def init(params: Any) -> Any:
        return tuple(core.init(part) for part in parts(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        results: list[tuple[Any, Any]] = [
            core.update(u, s, p) for u, s, p in zip(parts(updates), state, parts(params), strict=True)
        ]
        return tree.combine(*(u for u, _ in results)), tuple(s for _, s in results)

    return optax.GradientTransformation(init, update)


def global_norm(updates: Any, *, blocked: bool = False) -> jax.Array:
    """Euclidean norm over all leaves; `blocked` sums in cache-sized blocks.

    On one CPU device blocks take a tenth of the time of XLA's plain reduction, which first writes the squares to memory
    (benchmarks/alternatives.py). They flatten leaves, which would gather sharded ones.
    """

    def sum_of_squares(leaf: jax.Array) -> jax.Array:
        leaf = leaf.astype(jnp.float32)
        return _blocked_sum_of_squares(leaf) if blocked else jnp.sum(jnp.square(leaf))

    return jnp.sqrt(sum(sum_of_squares(leaf) for leaf in jax.tree.leaves(updates)))


def clip_by_global_norm(limit: Any, *, blocked: bool = False) -> optax.GradientTransformation:
    """Scales all updates so that their global norm is at most `limit` (Pascanu et al. 2013, arXiv:1211.5063)."""

    def clip(updates: Any, _: Any) -> Any:
        scale = jnp.minimum(1.0, limit / jnp.maximum(global_norm(updates, blocked=blocked), 1e-16))
        return jax.tree.map(lambda u: u * scale.astype(u.dtype), updates)

    return optax.stateless(clip)


def _blocked_sum_of_squares(leaf: jax.Array) -> jax.Array:
    flat = leaf.reshape(-1)
    blocks = flat.size // _BLOCK

    def add(i: Any, sums: jax.Array) -> jax.Array:
        return sums + jnp.square(jax.lax.dynamic_slice(flat, (i * _BLOCK,), (_BLOCK,)))

    rest = jnp.sum(jnp.square(flat[blocks * _BLOCK :]))
    return rest + jax.lax.fori_loop(0, blocks, add, jnp.zeros(_BLOCK, jnp.float32)).sum() if blocks else rest
