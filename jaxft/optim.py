"""The optimizer: optax, with parameter groups as masks and multipliers made from the plan."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxft import tree
from jaxft.config import OptimConfig
from jaxft.strategies import ParameterPlan
from jaxft.tree import Params

Hyper = Mapping[str, Any]
MakeOptimizer = Callable[[Hyper], optax.GradientTransformation]


def hyperparameters(config: OptimConfig) -> dict[str, jax.Array]:
    """The numbers of a run that may be traced, and so swept in one program. float32 scalars."""
    values = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay}
    if config.clip is not None:
        values["clip"] = config.clip
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}


def schedule_factor(config: OptimConfig, total_steps: int) -> Callable[[Any], jax.Array]:
    """Learning rate over its peak as a function of the number of steps done (Hugging Face's schedules)."""
    warmup = round(config.warmup * total_steps) if config.warmup < 1 else int(config.warmup)

    def factor(step: Any) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        rising = step / max(1, warmup)
        progress = jnp.clip((step - warmup) / max(1, total_steps - warmup), 0.0, 1.0)
        falling = {
            "linear": 1.0 - progress,
            "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
            "constant": jnp.ones_like(progress),
        }[config.schedule]
        return jnp.where(step < warmup, rising, falling)

    return factor


def make_optimizer(config: OptimConfig, plan: ParameterPlan, total_steps: int) -> MakeOptimizer:
    """A function from (possibly traced) hyperparameters to the optax transformation.

    AdamW as in torch.optim.AdamW: clip by the global norm, Adam with bias correction, decay added on the masked leaves,
    all times learning rate, schedule and the plan's multiplier.
    """
    factor = schedule_factor(config, total_steps)

    def decayed(params: Params) -> Params:
        return tree.map_with_path(lambda path, _: bool(plan.of(path).weight_decay), params)

    def build(hyper: Hyper) -> optax.GradientTransformation:
        parts = [clip_by_global_norm(hyper["clip"])] if "clip" in hyper else []
        parts += [
            optax.scale_by_adam(config.beta1, config.beta2, config.epsilon),
            optax.add_decayed_weights(hyper["weight_decay"], mask=decayed),
            optax.stateless(lambda updates, _: tree.map_with_path(lambda p, u: _scaled(u, plan.of(p)), updates)),
            optax.scale_by_schedule(lambda step: -hyper["learning_rate"] * factor(step)),
        ]
        return optax.chain(*parts)

    return build


def global_norm(updates: Any) -> jax.Array:
    """Euclidean norm over all leaves."""
    return jnp.sqrt(sum(_sum_of_squares(leaf) for leaf in jax.tree.leaves(updates)))


def clip_by_global_norm(limit: Any) -> optax.GradientTransformation:
    """Scale all updates so that their global norm is at most `limit` (Pascanu et al. 2013, arXiv:1211.5063)."""

    def clip(updates: Any, _: Any) -> Any:
        scale = jnp.minimum(1.0, limit / jnp.maximum(global_norm(updates), 1e-16))
        return jax.tree.map(lambda u: u * scale.astype(u.dtype), updates)

    return optax.stateless(clip)


def _sum_of_squares(leaf: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(leaf.astype(jnp.float32)))


def _scaled(update: jax.Array, setting: Any) -> jax.Array:
    return update if setting.learning_rate == 1.0 else update * jnp.asarray(setting.learning_rate, update.dtype)
