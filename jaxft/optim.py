"""The optimizer: optax, with parameter groups as masks and multipliers made from the plan."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxft import tree
from jaxft.config import OptimConfig
from jaxft.strategies import ParameterPlan, by_stage
from jaxft.tree import Params

Hyper = Mapping[str, Any]
_BLOCK = 1 << 16  # floats; the running sums stay in the second-level cache


def hyperparameters(config: OptimConfig) -> dict[str, jax.Array]:
    """The numbers of a run that may be traced, and so swept in one program. float32 scalars."""
    values = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay}
    if config.clip is not None:
        values["clip"] = config.clip
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}


def schedule_factor(config: OptimConfig, total_steps: int, numpy: Any = jnp) -> Callable[[Any], Any]:
    """Learning rate over its peak as a function of the number of steps done (Hugging Face's schedules).

    Args:
      config: schedule and warm-up.
      total_steps: of the run.
      numpy: `jax.numpy` inside a program, `numpy` on the host (which must not wait for a device to log a number).
    """
    warmup = math.ceil(config.warmup * total_steps) if config.warmup < 1 else int(config.warmup)

    def factor(step: Any) -> Any:
        step = numpy.asarray(step, numpy.float32)
        progress = numpy.clip((step - warmup) / max(1, total_steps - warmup), 0.0, 1.0)
        falling = {
            "linear": 1.0 - progress,
            "cosine": 0.5 * (1.0 + numpy.cos(numpy.pi * progress)),
            "constant": numpy.ones_like(progress),
        }[config.schedule]
        return numpy.where(step < warmup, step / max(1, warmup), falling)

    return factor


@dataclass(frozen=True)
class Optimizer:
    """What the train step needs: the transformation for (possibly traced) hyperparameters, and the norm it clips by."""

    build: Callable[[Hyper], optax.GradientTransformation]
    blocked_norm: bool

    def norm(self, updates: Any) -> jax.Array:
        """The global norm, computed as clipping computes it, so that the compiler merges the two."""
        return global_norm(updates, blocked=self.blocked_norm)


def make_optimizer(config: OptimConfig, plan: ParameterPlan, total_steps: int, *, blocked_norm: bool = False) -> Optimizer:
    """The optimizer of a run.

    AdamW as in torch.optim.AdamW: clip by the global norm, Adam with bias correction, decay added where the plan says so,
    all times learning rate, schedule and the plan's multiplier.
    """
    factor = schedule_factor(config, total_steps)

    def decayed(weight_decay: Any, updates: Any, params: Any) -> Params:
        flat = tree.flatten(params)

        def add(path: tree.Path, update: jax.Array) -> jax.Array:
            own = plan.column(path, "weight_decay")
            if own is False:
                return update
            return update + _along(weight_decay if own is True else own, update) * flat[path]

        return tree.map_with_path(add, updates)

    def multiplied(updates: Any, _: Any) -> Params:
        def multiply(path: tree.Path, update: jax.Array) -> jax.Array:
            rate = plan.column(path, "learning_rate")
            return update if np.all(rate == 1.0) else update * _along(rate, update)

        return tree.map_with_path(multiply, updates)

    def build(hyper: Hyper) -> optax.GradientTransformation:
        parts = [clip_by_global_norm(hyper["clip"], blocked=blocked_norm)] if "clip" in hyper else []
        parts += [
            by_stage(optax.scale_by_adam(config.beta1, config.beta2, config.epsilon), plan),
            optax.stateless(partial(decayed, hyper["weight_decay"])),
            optax.stateless(multiplied),
            optax.scale_by_schedule(lambda step: -hyper["learning_rate"] * factor(step)),
        ]
        return optax.chain(*parts)

    return Optimizer(build, blocked_norm)


def global_norm(updates: Any, *, blocked: bool = False) -> jax.Array:
    """Euclidean norm over all leaves.

    Args:
      updates: a tree of arrays.
      blocked: sum in cache-sized blocks: on one CPU device a tenth of the time of XLA's plain reduction, which writes the
        squares out first (benchmarks/step.py). It flattens leaves, which would gather sharded ones.
    """
    square_sum = _blocked_sum_of_squares if blocked else _sum_of_squares
    return jnp.sqrt(sum(square_sum(leaf) for leaf in jax.tree.leaves(updates)))


def clip_by_global_norm(limit: Any, *, blocked: bool = False) -> optax.GradientTransformation:
    """Scale all updates so that their global norm is at most `limit` (Pascanu et al. 2013, arXiv:1211.5063)."""

    def clip(updates: Any, _: Any) -> Any:
        scale = jnp.minimum(1.0, limit / jnp.maximum(global_norm(updates, blocked=blocked), 1e-16))
        return jax.tree.map(lambda u: u * scale.astype(u.dtype), updates)

    return optax.stateless(clip)


def _sum_of_squares(leaf: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(leaf.astype(jnp.float32)))


def _blocked_sum_of_squares(leaf: jax.Array) -> jax.Array:
    flat = leaf.astype(jnp.float32).reshape(-1)
    blocks = flat.size // _BLOCK

    def add(i: Any, sums: jax.Array) -> jax.Array:
        return sums + jnp.square(jax.lax.dynamic_slice(flat, (i * _BLOCK,), (_BLOCK,)))

    rest = jnp.sum(jnp.square(flat[blocks * _BLOCK :]))
    return rest + jax.lax.fori_loop(0, blocks, add, jnp.zeros(_BLOCK, jnp.float32)).sum() if blocks else rest


def _along(values: Any, leaf: jax.Array) -> jax.Array:
    """A number, or one for each layer of a stacked leaf, in the shape that broadcasts over the leaf."""
    values = jnp.asarray(values, leaf.dtype)
    return values.reshape(values.shape + (1,) * (leaf.ndim - 1)) if values.ndim else values
